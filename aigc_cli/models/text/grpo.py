"""Rewards: a chat model learns from what its own answers are worth, compared with each other.

GRPO of Shao et al., 2024, https://arxiv.org/abs/2402.03300, with the normalizers of Dr. GRPO and
DAPO; formulas and papers in nn/policy.py. It comes after `chat`.

A step draws `samples` answers to each of its prompts from the policy as it is (temperature 1,
nothing cut off), rewards them, and makes `updates` optimizer steps. The noise of an answer follows
from the seed, the step and its number, so a run resumes exactly and does not depend on how a batch
is spread.

Differs from the papers: the ratio compares with the policy before the step, which with one update
is the policy itself, so clipping matters from the second update on. Padding and other tokens that
are never drawn keep their share in the log-probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Example, Phase, Terms
from aigc_cli.models.text._causal import CausalDecoding
from aigc_cli.models.text._rewards import JudgedConfig, JudgedModule, needs_reference
from aigc_cli.models.text._tuned import ComparedModule, TunedConfig
from aigc_cli.nn.policy import clipped_surrogate, group_advantages, k3_divergence, normalize
from aigc_cli.recipe.sections import Name
from aigc_cli.sampling.decoding import Answer, Decoding
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.text import IGNORE, PromptSpec

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Config(JudgedConfig, TunedConfig):
    """What is rewarded, how answers are drawn and compared, and the optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {**TunedConfig.TINY, "samples": 2, "max_tokens": 8}

    rewards: dict[Name, float] = Field({"length:100": 1.0}, min_length=1)
    """What answers are worth, as a weighted sum: metrics of `aigc evaluate --metric list` by name,
    such as rouge_l, which compare with the references of the prompts; class:NAME, how likely
    `classifier` finds that class; regex:PATTERN, 1 where it is found; length:N, 1 for N characters,
    falling to 0 for none and for 2 N.
    """
    unrewarded: Name = "distinct_1"
    """A further reward that is only logged: where it falls, the others are being gamed."""
    lang: Name = "en"
    """Language of the answers, for metrics that cut words."""
    samples: int = Field(8, ge=2)
    """Answers drawn to each prompt, G in the paper."""
    max_tokens: int = Field(64, gt=0)
    """Longest answer that is drawn, in tokens; a prompt that leaves no room loses its beginning."""
    updates: int = Field(1, ge=1)
    """Optimizer steps on the same answers."""
    scale: bool = True
    """Divide advantages by the standard deviation of their prompt's rewards; Dr. GRPO does not."""
    normalizer: Literal["grpo", "dr_grpo", "dapo"] = "dapo"
    """grpo: mean of each answer's mean; dr_grpo: sum over samples x max_tokens; dapo: mean over all
    tokens of the step.
    """
    clip: tuple[float, float] = (0.2, 0.2)
    """How far below and above 1 the ratio of probabilities counts; DAPO has 0.2 and 0.28."""
    beta: float = Field(0.0, ge=0)
    """Weight of the divergence from the model it began as (k3 estimate)."""
    lr: float = Field(1e-6, gt=0, le=1)
    """Learning rate before the schedule; with LoRA about 1e-5."""


class Model(JudgedModule, ComparedModule):
    """The policy. Validation draws one answer to each prompt, always with the same noise."""

    accepts = (PromptSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"reward": "max", "unrewarded": "max"}
    counted = ("reward", "unrewarded")
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec, compared=config.beta > 0)
        self.rewards = self.rewards_of(config.rewards, config.lang)
        self.unrewarded = self.rewards_of({config.unrewarded: 1.0}, config.lang)
        self.compares = any(map(needs_reference, [*config.rewards, config.unrewarded]))
        if config.max_tokens >= self.context:
            raise InputError(
                f"model.max_tokens ({config.max_tokens}) leaves no room for a prompt in "
                f"data.context ({self.context})"
            )

    def shard(self, mesh: DeviceMesh) -> None:
        """
        Raises:
            InputError: always: devices would wait for each other where their texts differ in
                length.
        """
        raise InputError(
            "trainer.strategy: fsdp cannot draw texts while training",
            hint="set trainer.strategy=ddp",
        )

    def phases(self) -> list[Phase]:
        return [Phase(0, self.loss)] * self.config.updates

    def expand(self, batch: Batch) -> Batch:
        """Adds G answers to each prompt: tokens, target (B, G, T), their log-probabilities before
        the step where these will change, and advantage, reward, unrewarded (B, G).
        """
        G = self.config.samples
        B = len(batch["prompt"])
        rows, answers = self._drawn(batch, self.step_noise(B * G), count=G)
        reward, unrewarded = self._judged(batch, answers, count=G)
        tokens, target = self._joined([row for row in rows for _ in range(G)], answers)
        batch = {
            **batch,
            "tokens": tokens.unflatten(0, (B, G)),
            "target": target.unflatten(0, (B, G)),
            "advantage": group_advantages(reward, scale=self.config.scale),
            "reward": reward,
            "unrewarded": unrewarded,
        }
        if self.config.updates > 1:
            with torch.no_grad():
                parts = zip(batch["tokens"], batch["target"], strict=True)
                batch["old"] = torch.stack([-self.net(x, target=y) for x, y in parts])
        return batch

    def weight(self, batch: Batch) -> Tensor:
        """Tokens of the answers."""
        return (batch["target"] != IGNORE).sum()

    def loss(self, batch: Batch) -> Terms:
        c = self.config
        tokens, target = batch["tokens"].flatten(0, 1), batch["target"].flatten(0, 1)  # (N, T)
        mask = (target != IGNORE).float()
        log_probs = -self.net(tokens, target=target)
        old = batch["old"].flatten(0, 1) if "old" in batch else log_probs.detach()
        low, high = c.clip
        advantage = batch["advantage"].flatten()[:, None]
        losses, clipped = clipped_surrogate(log_probs, old, advantage, low=low, high=high)
        active = mask.sum().clamp(min=1)
        terms = {
            "reward": batch["reward"].mean(),
            "reward_std": batch["reward"].std(1).mean(),
            "unrewarded": batch["unrewarded"].mean(),
            "tokens": mask.sum(1).mean(),
            "clipped": (clipped * mask).sum() / active,
        }
        if c.beta:
            divergence = k3_divergence(log_probs, -self.reference_nats(tokens, target))
            losses = losses + c.beta * divergence
            terms["kl"] = (divergence * mask).sum() / active
        loss = normalize(
            losses, mask, c.normalizer, max_tokens=c.max_tokens, mean_tokens=self.mean_weight
        )
        return {"loss": loss, **terms}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        _, answers = self._drawn(batch, self.val_noise(len(batch["prompt"])))
        reward, unrewarded = self._judged(batch, answers)
        return {"reward": reward[:, 0], "unrewarded": unrewarded[:, 0]}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        return means

    def example(self, batch: Batch, options: Options) -> Example:
        (prompt,) = self._ids(batch["prompt"])
        return Example(prompt)

    @property
    def stop_ids(self) -> list[int]:
        return [self.end_id]  # the one that is learned

    def _drawn(
        self, batch: Batch, noise: SampleNoise, count: int = 1
    ) -> tuple[list[list[int]], list[Answer]]:
        """The prompts' tokens, and `count` answers to each, in order."""
        room = self.context - self.config.max_tokens
        rows = [row[-room:] for row in self._ids(batch["prompt"])]
        options = Decoding(max_tokens=self.config.max_tokens)
        answers = self.answer(self.read_ids(rows), len(rows), options, noise, count)
        return rows, [answer for several in answers for answer in several]

    def _judged(self, batch: Batch, answers: list[Answer], count: int = 1) -> tuple[Tensor, Tensor]:
        """Reward and unrewarded score (B, count)."""
        references: list[list[str]] = [[] for _ in answers]
        if self.compares:
            if "reference" not in batch:
                raise InputError(
                    "a reward compares with references, and the data has none",
                    hint="name their key in the data, or reward by regex: or length:",
                )
            texts = self.tokenizer.decode_batch(self._ids(batch["reference"]))
            references = [[text] for text in texts for _ in range(count)]
        texts = [answer.text for answer in answers]
        judged = (judge(texts, references) for judge in (self.rewards, self.unrewarded))
        reward, unrewarded = (j.view(-1, count).to(self.device) for j in judged)
        return reward, unrewarded

    def _ids(self, rows: Tensor) -> list[list[int]]:
        """Rows without padding."""
        pad = self.tokenizer.pad_id
        return [[token for token in row if token != pad] for row in rows.tolist()]

    def _joined(self, rows: list[list[int]], answers: list[Answer]) -> tuple[Tensor, Tensor]:
        """Tokens (N, T) of prompts and answers, and target (N, T) in the answers and their ends."""
        tokens, target = [], []
        for row, answer in zip(rows, answers, strict=True):
            written = [*answer.ids, *([self.end_id] if answer.finished else [])]
            ids = torch.tensor([*row, *written])
            tokens.append(ids[:-1])
            target.append(ids[1:].clone())
            target[-1][: len(row) - 1] = IGNORE
        padded = (
            pad_sequence(tokens, batch_first=True),
            pad_sequence(target, batch_first=True, padding_value=IGNORE),
        )
        return padded[0].to(self.device), padded[1].to(self.device)


class Options(CausalDecoding):
    """How it answers."""

    temperature: float = Field(0.7, ge=0, le=100)
    """0 always takes the likeliest token; 1 draws from the model's probabilities."""
