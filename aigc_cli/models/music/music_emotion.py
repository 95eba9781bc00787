"""Classifier of pieces: their emotion, genre or whatever their classes are, from piano rolls.

A convolutional network over time and pitch, so that a chord is one at every pitch. Emotions may be
the signs of valence and arousal (Russell, 1980), as in Hung et al., "EMOPIA", 2021,
https://arxiv.org/abs/2108.01374. Recordings have audio_classifier. A piece is named by the mean
over its stretches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.media.roll import from_roll, stretches
from aigc_cli.models._base import Batch, Example, Terms
from aigc_cli.models._classifier import ClassifierModule, decayed, judged
from aigc_cli.nn.classifier import build
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec
from aigc_cli.specs.rolls import RollSpec


class Config(Section):
    """The network and its optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {"widths": (4, 8), "depth": 1}

    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of each stage, between which the resolution is halved."""
    depth: int = Field(1, gt=0, le=8)
    """3x3 convolutions of a stage."""
    dropout: float = Field(0.3, ge=0, lt=1)
    """Part of the features that is zeroed before the last layer."""
    lr: float = Field(2e-3, gt=0, le=10)
    """Learning rate before the schedule, of AdamW."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """Decay of the weights, not of biases and normalizations."""


class Model(ClassifierModule):
    """rolls (B, 2, 88, S) -> logits (B, K)."""

    accepts = (RollSpec,)
    takes = "music"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "accuracy": "max",
        "cross_entropy": "min",
    }
    averaged = ("net",)
    config: Config
    spec: RollSpec

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, RollSpec)
        if len(spec.labels) < 2:
            raise DataError(f"all pieces are {spec.labels[0]!r}: there is nothing to tell")
        self.net = build({
            "name": "cnn", "channels": 3, "image_size": 0, "num_classes": len(spec.labels),
            "widths": config.widths, "depths": [config.depth] * len(config.widths), "norm": True,
            "dropout": config.dropout, "pooling": "max", "padding": "zeros",
        })  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = decayed(self.parameters(), self.config.weight_decay)
        return torch.optim.AdamW(groups, self.config.lr)

    def logits(self, roll: Tensor) -> Tensor:
        """roll (B, 2, 88, S) -> (B, K). A third channel has the height of what is held, which
        convolutions do not see.
        """
        height = torch.linspace(-1, 1, roll.shape[2], device=roll.device)[:, None]
        return self.net(torch.cat([roll, roll[:, 1:] * height], 1)).float()

    def loss(self, batch: Batch) -> Terms:
        logits, label = self.logits(batch["roll"]), batch["label"]
        accuracy = (logits.argmax(1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label), "accuracy": accuracy}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return judged(self.logits(batch["roll"]), batch["label"])

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Always the class that most real training stretches have; their shares."""
        label, shares = batch["label"], torch.tensor(self.spec.shares, device=self.device)
        nats = -shares.clamp(min=1e-9).log()
        return {
            "majority": {
                "accuracy": (label == shares.argmax()).float(),
                "cross_entropy": nats[label],
            }
        }

    def example(self, batch: Batch, options: Options) -> Example:
        """The notes of the stretch."""
        spec, roll = self.spec, batch["roll"][0].bool().cpu().numpy()
        music = from_roll(roll, spec.resolution, spec.beats_per_bar)
        given = torch.from_numpy(music.notes)
        return Example(given, beside={"class": spec.labels[int(batch["label"][0])]})

    def _rolls(self, notes: Tensor) -> Tensor:
        """Notes (N, 4) as in media/events.py -> the rolls of all stretches, (n, 2, 88, S)."""
        spec, rows = self.spec, notes.cpu().numpy()
        bar = spec.resolution * spec.beats_per_bar
        bars = int(rows[:, 0].max(initial=0)) // bar + 1
        music = Music(rows, spec.resolution, spec.beats_per_bar, bars, 120, 0)
        return torch.stack([torch.from_numpy(r).float() for r in stretches(music, spec.steps)])

    def batch_of(self, things: Sequence[Tensor]) -> Batch:
        """The first stretch of each piece."""
        return {"roll": torch.stack([self._rolls(notes)[0] for notes in things])}

    def classify_things(self, things: Sequence[Tensor]) -> Tensor:
        """Of pieces, notes (N, 4): the mean over all their stretches, (B, K)."""
        found = [self.classify({"roll": self._rolls(n).to(self.device)}).mean(0) for n in things]
        return torch.stack(found)

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Probabilities (B, K) of the classes in `spec.labels` for rolls (B, 2, 88, S)."""
        return self.logits(batch["roll"]).softmax(1)


class Options(Section):
    """What `aigc sample` may set: nothing."""
