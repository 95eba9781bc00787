"""Language model of music: pieces, and continuations of pieces, event by event or frame by frame.

The decoder, its cache and the ways of drawing are those of the texts (nn/causal_lm.py,
nn/recurrent_lm.py, sampling/decoding.py). Events are those of media/events.py (Huang and Yang, "Pop
Music Transformer", 2020, https://arxiv.org/abs/2002.00212), and a grammar forbids what is no music,
so every row that is written is a piece. Frames and their two heads are in _frames.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.media.events import Music
from aigc_cli.models._base import Batch, GenerativeModule, Terms
from aigc_cli.models.music._events import Conditions, EventWriter
from aigc_cli.models.music._frames import FrameWriter
from aigc_cli.models.music._network import Config as NetworkConfig
from aigc_cli.models.text._causal import decoder_optimizer
from aigc_cli.recipe.dial import Dial
from aigc_cli.sampling.decoding import Decoding
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.music import FramesSpec, MusicSpec

DIAL = Dial(
    goals=("generate", "continue"),
    sizes=tuple(
        {
            "data.context": context, "model.dim": D, "model.num_layers": layers,
            "model.num_heads": D // 32,
        }
        for context, D, layers in ((128, 64, 2), (192, 128, 3), (256, 192, 4))
    ),
    steps=900,
    always={
        "model.qk_norm": True, "model.dropout": 0.1, "model.lr": 2e-3, "model.weight_decay": 0.1,
        "trainer.global_batch": 8, "trainer.clip_norm": 1.0, "trainer.precision": "fp32",
    },
    averaged=False,
)  # fmt: skip


class Config(NetworkConfig):
    """The network and its training."""


class Options(Decoding, Conditions):
    """How pieces are written and continued; of the ways of drawing, frames have `temperature`."""

    TINY: ClassVar[Mapping[str, Any]] = {"bars": 1, "max_tokens": 40}

    bars: int = Field(8, ge=0, le=1000)
    """Bars that are written, behind those of an input; 0 until the model ends the piece, which one
    of frames does not.
    """
    max_tokens: int = Field(4096, gt=0)
    """Most tokens of a piece; bars that do not fit stay empty."""
    temperature: float = Field(0.95, ge=0, le=100)
    """0 always takes the likeliest; 1 draws from the model's probabilities."""
    top_p: float = Field(0.98, gt=0, le=1)
    """Draw from the fewest likeliest tokens that have this probability together."""


class Model(GenerativeModule):
    """Tokens (B, T), or frames (B, T, 88), -> nats (B, T) of each after those before."""

    accepts = (MusicSpec, FramesSpec)
    takes = "music"
    makes = "music"
    input_optional = True
    averaged = ("net",)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"loss": "min", "perplexity": "min"}
    counted = ("nats", "tokens")
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, (MusicSpec, FramesSpec))
        self.context = spec.context
        self.writer: EventWriter | FrameWriter = (
            EventWriter(config, spec) if isinstance(spec, MusicSpec) else FrameWriter(config, spec)
        )
        self.net = self.writer.net
        self.conditional = bool(getattr(spec, "labels", ()))
        if isinstance(spec, FramesSpec):  # a frame is no token
            self.metrics = {"loss": "min"}  # type: ignore[misc]

    def initial(self, weights: Mapping[str, Tensor], spec: Spec) -> Mapping[str, Tensor]:
        """All that fit.

        Raises:
            InputError: the other model's tokens are merged of other events.
        """
        if getattr(spec, "merges", ()) != getattr(self.spec, "merges", ()):
            raise InputError(
                "init_from: its tokens are merged of other events than those of these data",
                hint="leave data.vocab_size out of both, or take its training data",
            )
        return weights

    def configure_optimizers(self) -> torch.optim.Optimizer:
        body = self.writer.net.body if isinstance(self.writer, FrameWriter) else self.writer.net
        return decoder_optimizer(self, body, self.config)

    def weight(self, batch: Batch) -> Tensor:
        return self.writer.counted(batch).sum()

    def loss(self, batch: Batch) -> Terms:
        return {"loss": self.writer.nats(batch).sum() / self.mean_weight}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return self._totals(batch, self.writer.nats(batch))

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        return {name: self._totals(batch, n) for name, n in self.writer.baselines(batch).items()}

    def _totals(self, batch: Batch, nats: Tensor) -> dict[str, Tensor]:
        return {"nats": nats.double().sum(1), "tokens": self.writer.counted(batch).sum(1)}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """loss: nats per event or frame; and perplexity of an event."""
        loss = means["nats"] / max(means["tokens"], 1e-9)
        found = {"loss": loss, "perplexity": exp(min(loss, 700))}
        return {name: found[name] for name in self.metrics}

    def labels_of(self, options: Options, first: int, n: int) -> Tensor | None:
        """The label that is asked for; None where the model chooses.

        Raises:
            InputError: the model does not know it.
        """
        asked = options.asked(getattr(self.spec, "labels", ()))
        return torch.full((n,), asked["label"], device=self.device) if "label" in asked else None

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Any] = (),
    ) -> list[Music]:
        """Pieces; behind the tokens (T,) or frames (T, 88) of one that is given.

        Raises:
            InputError: more answers than beams; frames without a number of bars, or with
                conditions.
        """
        if isinstance(self.writer, FrameWriter):
            if asked := options.asked(()):
                raise InputError(f"{next(iter(asked))}: a model of frames has no conditions")
            return self.writer.sample(noise, options.bars, options.temperature, given)
        return self.writer.sample(noise, options, given)
