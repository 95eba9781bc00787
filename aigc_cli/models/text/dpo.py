"""Preferences: a chat model learns which of two answers is better, without a model of rewards.

DPO of Rafailov et al., 2023, https://arxiv.org/abs/2305.18290, with the label smoothing of its
authors' code; IPO of Azar et al., 2023, https://arxiv.org/abs/2310.12036. It comes after `chat`, on
the better answers.

Log-probabilities are sums over the tokens of an answer, as in both papers; `length_normalized`
makes them means, which no longer favor short answers. `nll` adds the likelihood of the better
answer, against its falling together with that of the worse one (Pang et al., 2024,
https://arxiv.org/abs/2404.19733, where it is a mean over tokens as here).
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.models._base import Batch, Example, Terms
from aigc_cli.models.text._causal import CausalDecoding
from aigc_cli.models.text._tuned import ComparedModule, TunedConfig
from aigc_cli.specs.text import IGNORE, PreferenceSpec


class Config(TunedConfig):
    """The objective and its optimizer."""

    objective: Literal["dpo", "ipo"] = "dpo"
    """dpo: logistic loss of the margin; ipo: its squared distance from 1 / (2 beta)."""
    beta: float = Field(0.1, gt=0)
    """How strongly the policy is held at the model it began as."""
    length_normalized: bool = False
    """Compare means over tokens instead of sums; beta is then about ten times as large."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """dpo: part of the pairs that are taken to be labeled the wrong way round."""
    nll: float = Field(0.0, ge=0)
    """Weight of the better answer's cross-entropy, in nats per token."""
    lr: float = Field(5e-6, gt=0, le=1)
    """Learning rate before the schedule; with LoRA about 5e-5."""


def preference_loss(margin: Tensor, config: Config) -> Tensor:
    """Loss of each pair from its margin, log(policy / reference) of the better answer minus that of
    the worse; ln 2 for dpo where the policy is the reference.
    """
    c = config
    if c.objective == "ipo":
        return (margin - 1 / (2 * c.beta)) ** 2
    logits = c.beta * margin
    return -(1 - c.label_smoothing) * F.logsigmoid(logits) - c.label_smoothing * F.logsigmoid(
        -logits
    )


class Model(ComparedModule):
    """Pairs count alike; one without a supervised token in both answers counts nothing."""

    accepts = (PreferenceSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "loss": "min",
        "accuracy": "max",
        "margin": "max",
        "chosen": "max",
        "rejected": "min",
    }
    counted = ("pairs", "loss", "accuracy", "margin", "chosen", "rejected")
    config: Config

    def weight(self, batch: Batch) -> Tensor:
        return self._compared(batch).sum()

    @staticmethod
    def _compared(batch: Batch) -> Tensor:
        """Which pairs (B,) have something to compare."""
        chosen, rejected = batch["chosen_target"] != IGNORE, batch["rejected_target"] != IGNORE
        return chosen.any(1) & rejected.any(1)

    def loss(self, batch: Batch) -> Terms:
        terms = self.terms_of(batch)
        return {name: values.sum() / self.mean_weight for name, values in terms.items()}

    def terms_of(self, batch: Batch) -> Terms:
        """Each (B,), 0 for pairs that do not count: the loss; whether the better answer gained
        more; the margin of the rewards beta log(policy / reference), and log-probabilities.
        """
        c = self.config
        tokens, target = _stacked(batch)
        counts = (target != IGNORE).sum(1)
        policy = -self.net(tokens, target=target).sum(1)
        reference = -self.reference_nats(tokens, target).sum(1)
        if c.length_normalized:
            policy, reference = policy / counts.clamp(min=1), reference / counts.clamp(min=1)
        gain, lost = (policy - reference).chunk(2)
        chosen, rejected = policy.chunk(2)
        loss = preference_loss(gain - lost, c)
        if c.nll:
            per_token = 1 if c.length_normalized else counts.chunk(2)[0].clamp(min=1)
            loss = loss - c.nll * chosen / per_token
        counted = self._compared(batch)
        terms = {
            "loss": loss,
            "accuracy": (gain > lost).float(),
            "margin": c.beta * (gain - lost),
            "chosen": chosen,
            "rejected": rejected,
        }
        return {name: values * counted for name, values in terms.items()}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return {"pairs": self._compared(batch).float(), **self.terms_of(batch)}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """Means over the pairs that count."""
        pairs = max(means["pairs"], 1e-9)
        return {name: means[name] / pairs for name in self.metrics}

    def example(self, batch: Batch, options: Options) -> Example:
        return self.answered(batch["chosen"][0], batch["chosen_target"][0])


def _stacked(batch: Batch) -> tuple[Tensor, Tensor]:
    """Tokens and targets (2B, T) of the better answers, then of the worse ones."""
    chosen, rejected = batch["chosen"], batch["rejected"]
    T = max(chosen.shape[1], rejected.shape[1])

    def padded(x: Tensor, value: int) -> Tensor:
        return F.pad(x, (0, T - x.shape[1]), value=value)

    tokens = torch.cat([padded(chosen, 0), padded(rejected, 0)])
    target = [padded(batch[f"{name}_target"], IGNORE) for name in ("chosen", "rejected")]
    return tokens, torch.cat(target)


class Options(CausalDecoding):
    """How it answers."""

    temperature: float = Field(0.7, ge=0, le=100)
    """0 always takes the likeliest token; 1 draws from the model's probabilities."""
