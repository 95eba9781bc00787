"""Classifier of recordings: a small convolutional network on log-mel spectrograms.

Layers in the manner of VGG with batch normalization, as in the room vision; what varies a training
spectrogram is SpecAugment: Park et al., 2019, https://arxiv.org/abs/1904.08779.

Differs from the paper: one band of rows and one of columns, each up to a share of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import DataError
from aigc_cli.media.audio import Sound
from aigc_cli.models._base import Batch, Example, Terms
from aigc_cli.models._classifier import ClassifierModule, decayed, judged
from aigc_cli.nn.classifier import build
from aigc_cli.nn.mel import LogMel
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec
from aigc_cli.specs.audio import AudioSpec

DIAL = Dial(
    goals=("classify",),
    sizes=tuple(
        {
            "data.sample_rate": rate, "data.length": rate, "model.widths": widths,
            "model.depth": depth,
        }
        for rate, widths, depth in (
            (8_000, [8, 16, 32], 1), (8_000, [16, 32, 64], 2), (16_000, [16, 32, 64], 2),
        )
    ),
    steps=400,
    always={
        "data.normalize": "peak", "trainer.global_batch": 32, "trainer.clip_norm": 1.0,
        "trainer.precision": "fp32",
    },
    needs="classes",
)  # fmt: skip


class Config(Section):
    """The network, its optimizer, and how training spectrograms are varied."""

    TINY: ClassVar[Mapping[str, Any]] = {"bands": 8, "widths": (4, 8), "depth": 1}

    bands: int = Field(40, ge=4, le=256)
    """Rows of the spectrogram, equally spaced in mel."""
    widths: tuple[int, ...] = (16, 32, 64)
    """Channels of each stage, between which the resolution is halved."""
    depth: int = Field(2, gt=0, le=8)
    """3x3 convolutions of a stage."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Part of the features that is zeroed before the last layer."""
    mask: float = Field(0.2, ge=0, lt=1)
    """Largest share of rows, and of columns, that a training spectrogram loses."""
    gain: float = Field(0.5, ge=0, le=2)
    """Largest change of loudness while training, in steps of 60 dB."""
    lr: float = Field(2e-3, gt=0, le=10)
    """Learning rate before the schedule, of AdamW."""
    weight_decay: float = Field(0.05, ge=0, le=1)
    """Decay of the weights, not of biases and normalizations."""


class Model(ClassifierModule):
    """samples (B, T) -> logits (B, K)."""

    accepts = (AudioSpec,)
    takes = "audio"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "accuracy": "max",
        "cross_entropy": "min",
    }
    averaged = ("net",)
    embeds = True
    config: Config
    spec: AudioSpec

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, AudioSpec)
        if spec.labels is None or len(spec.labels) < 2:
            raise DataError(
                "a classifier needs two classes or more",
                hint="put the recordings of each into a folder of its name, or set "
                "data.label_pattern",
                code="unlabeled",
            )
        self.mel = LogMel(spec.sample_rate, config.bands)
        self.net = build({
            "name": "cnn", "channels": 1, "image_size": 0, "num_classes": len(spec.labels),
            "widths": config.widths, "depths": [config.depth] * len(config.widths), "norm": True,
            "dropout": config.dropout, "pooling": "max", "padding": "zeros",
        })  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        groups = decayed(self.parameters(), self.config.weight_decay)
        return torch.optim.AdamW(groups, self.config.lr)

    def spectrogram(self, batch: Batch) -> Tensor:
        """(B, 1, bands, frames) of the whole stretch, whatever else is in the batch."""
        x = batch["audio"][:, self.spec.context :]
        return self.mel(F.pad(x, (0, self.spec.length - x.shape[1])))[:, None]

    def _varied(self, image: Tensor) -> Tensor:
        """Each louder or quieter, without some of its rows and columns."""
        B, _, *sides = image.shape
        image = image + (2 * self.rand(B, 1, 1, 1) - 1) * self.config.gain
        for dim, size in enumerate(sides):
            place = torch.arange(size, device=image.device) / size  # (size,)
            wide = self.config.mask * self.rand(B, 1)
            first = (1 - wide) * self.rand(B, 1)
            gone = (place >= first) & (place < first + wide)  # (B, size)
            image = image.masked_fill(
                gone[:, None, :, None] if dim == 0 else gone[:, None, None], 0
            )
        return image

    def loss(self, batch: Batch) -> Terms:
        logits, label = self.net(self._varied(self.spectrogram(batch))), batch["label"]
        accuracy = (logits.argmax(1) == label).float().mean()
        return {"loss": F.cross_entropy(logits, label), "accuracy": accuracy}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return judged(self.net(self.spectrogram(batch)).float(), batch["label"])

    def example(self, batch: Batch, options: Options) -> Example:
        assert self.spec.labels is not None
        sound = batch["audio"][0, self.spec.context :]
        return Example(sound, beside={"class": self.spec.labels[int(batch["label"][0])]})

    def batch_of(self, things: Sequence[Tensor]) -> Batch:
        """Of recordings (T,) the first `data.length` samples."""
        C, T = self.spec.context, self.spec.length
        rows = [F.pad(x[:T], (C, max(T - len(x), 0))) for x in things]
        return {"audio": torch.stack(rows)}

    @torch.no_grad()
    def embed(self, things: Sequence[Sound]) -> tuple[Tensor, Tensor]:
        """Means over the stretches of `data.length` samples of each sound, at the rate of the
        model; a last one of less than half is left out.
        """
        T, pooled, logits = self.spec.length, [], []
        for sound in things:
            samples = torch.from_numpy(sound.at(self.spec.sample_rate).samples)
            count = max(round(len(samples) / T), 1)
            rows = F.pad(samples, (0, max(count * T - len(samples), 0)))[: count * T].view(count, T)
            found = self.net[:-1](self.mel(rows.to(self.device))[:, None])
            pooled.append(found.mean(0))
            logits.append(self.net[-1](found).mean(0))
        return torch.stack(pooled), torch.stack(logits)

    @torch.no_grad()
    def classify(self, batch: Batch) -> Tensor:
        """Probabilities (B, K) of the classes in `spec.labels` for samples (B, T)."""
        return self.net(self.spectrogram(batch)).float().softmax(1)


class Options(Section):
    """What `aigc sample` may set: nothing."""
