"""Self-critical training: a model that makes texts of texts learns from what its own are worth.

Rennie et al., 2017, https://arxiv.org/abs/1612.00563, with the baseline of their greedy text, or,
by default, the mean of the other samples, which is better and needs no further pass (Luo, 2020,
https://arxiv.org/abs/2003.09971). It comes after training by likelihood, by `init_from`. There is
no dropout: what draws a text must be what learns from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._text import require_tokenizer
from aigc_cli.models.text._pairs import PairModule, padded
from aigc_cli.models.text._rewards import JudgedConfig, JudgedModule, Rewards
from aigc_cli.nn.policy import leave_one_out_advantages
from aigc_cli.recipe.sections import Name
from aigc_cli.sampling.decoding import Answer, Decoding
from aigc_cli.specs import Spec
from aigc_cli.specs.text import TextPairSpec

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class RewardConfig(JudgedConfig):
    """What texts are worth, where they are rewarded."""

    rewards: dict[Name, float] = Field(default_factory=dict)
    """Self-critical training: what a text is worth, as a weighted sum of metrics of `aigc evaluate
    --metric list` by name, class:NAME of `classifier`, regex:PATTERN and length:N. Empty trains by
    likelihood.
    """
    unrewarded: Name = "chrf"
    """rewards: a further one that is only logged; where it falls, the others are being gamed."""
    samples: int = Field(5, ge=2)
    """rewards: texts drawn of each source."""
    baseline: Literal["others", "greedy"] = "others"
    """rewards: what the worth of a text is compared with: that of the other samples, or of the
    likeliest text.
    """


class RewardedModule(JudgedModule, PairModule):
    """Adds `rewarded_loss` and, with rewards, their values in validation."""

    config: Any

    def __init__(self, config: RewardConfig, spec: Spec) -> None:
        super().__init__(config, spec)
        self.judges: dict[str, Rewards] = {}
        if config.rewards:
            lang = self.spec.languages[1] if self.spec.languages else "en"
            self.judges = {
                "reward": self.rewards_of(config.rewards, lang),
                "unrewarded": self.rewards_of({config.unrewarded: 1.0}, lang),
            }
            known = type(self)
            self.metrics = {**dict.fromkeys(self.judges, "max"), **known.metrics}  # type: ignore[misc]
            self.counted = (*self.judges, *known.counted)  # type: ignore[misc]

    def shard(self, mesh: DeviceMesh) -> None:
        """
        Raises:
            InputError: there are rewards, and devices would wait for each other where the texts
                that they draw differ in length.
        """
        if self.judges:
            raise InputError(
                "trainer.strategy: fsdp cannot draw texts while training",
                hint="set trainer.strategy=ddp",
            )
        super().shard(mesh)

    def initial(self, weights: Mapping[str, Tensor], spec: Spec) -> Mapping[str, Tensor]:
        """
        Raises:
            InputError: it is none of pairs of texts, or its tokenizers are others.
        """
        if not isinstance(spec, TextPairSpec):
            raise InputError(f"init_from: a model of {spec.kind} does not make texts of texts")
        require_tokenizer("source_tokenizer", spec.source_tokenizer, self.source_tokenizer)
        require_tokenizer("target_tokenizer", spec.target_tokenizer, self.tokenizer)
        return weights

    def train(self, mode: bool = True) -> Any:
        return super().train(mode and not self.judges)

    def expand(self, batch: Batch) -> Batch:
        """With rewards, adds G drawn texts of each source (B, G, T) and what they are worth."""
        if not self.judges:
            return batch
        source, _ = self.sides(batch)
        B, G = len(source), self.config.samples
        answers = self.answer(
            self.read_ids(source), B, self._drawing(1.0), self.step_noise(B * G), G
        )
        judged = self._judged(batch, answers)
        if self.config.baseline == "others":
            advantage = leave_one_out_advantages(judged["reward"])
        else:
            greedy = self.answer(self.read_ids(source), B, self._drawing(0.0), None)
            advantage = judged["reward"] - self._judged(batch, greedy)["reward"]
        rows = [
            [self.bos, *answer.ids, *([self.eos] if answer.finished else [])]
            for several in answers
            for answer in several
        ]
        drawn = padded(rows, self.pad).to(source.device).unflatten(0, (B, G))
        return {**batch, "drawn": drawn, "advantage": advantage, **judged}

    def _drawing(self, temperature: float) -> Decoding:
        return Decoding(temperature=temperature, max_tokens=self.spec.max_target - 2)

    def _judged(self, batch: Batch, answers: list[list[Answer]]) -> dict[str, Tensor]:
        """Each (B, answers to one source)."""
        count = len(answers[0])
        asked = self.tokenizer.decode_batch(batch["target"].tolist())
        references = [[text] for text in asked for _ in range(count)]
        texts = [answer.text for several in answers for answer in several]
        return {
            name: judge(texts, references).view(-1, count).to(self.device)
            for name, judge in self.judges.items()
        }

    def weight(self, batch: Batch) -> Tensor:
        if "drawn" in batch:
            return (batch["drawn"][:, :, 1:] != self.pad).sum()
        return super().weight(batch)

    def rewarded_loss(self, batch: Batch) -> Terms:
        """Mean over the tokens drawn of -advantage log p."""
        source, _ = self.sides(batch)
        drawn = batch["drawn"]
        repeated = source.repeat_interleave(drawn.shape[1], 0)
        log_probs = self.log_probs(repeated, drawn.flatten(0, 1))
        gain = (batch["advantage"].flatten()[:, None] * log_probs).sum()
        means = {name: batch[name].mean() for name in self.judges}
        return {"loss": -gain / self.mean_weight, **means}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        values = super().evaluate_batch(batch)
        if not self.judges:
            return values
        source, _ = self.sides(batch)
        greedy = self.answer(self.read_ids(source), len(source), self._drawing(0.0), None)
        return values | {k: v[:, 0] for k, v in self._judged(batch, greedy).items()}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        return super().summarize(means) | {name: means[name] for name in self.judges}
