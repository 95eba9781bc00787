"""Blobs of one color, a family that only the tests know."""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec


class Config(Section):
    width: int = Field(8, gt=0, le=64)
    """Channels of every layer."""
    lr: float = Field(2e-4, gt=0, le=1)
    """Learning rate of Adam."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay rates of Adam's two moments."""
    loss: Literal["l1", "l2"] = "l1"
    """Distance between a blob and its target."""
    residual: bool = True
    """Add the input to the output."""
    layers: int | Literal["auto"] = "auto"
    """Depth; auto follows the size of the blobs."""
    label: str | None = None
    """A name shown in titles."""


class Options(Section):
    temperature: float = Field(1.0, ge=0)
    """Spread of the colors."""
    prompt: str = ""
    """Words that choose the color."""


class Blobs(Spec):
    kind = "blobs"


class Model(GenerativeModule):
    """One weight."""

    accepts = (Blobs,)
    makes = "image"
    metrics: ClassVar = {"l1": "min"}
    averaged = ("net",)

    def __init__(self, config, spec):
        super().__init__(config, spec)
        self.net = nn.Linear(1, 1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())

    def loss(self, batch):
        return {"loss": self.net(batch["blob"]).mean()}

    def evaluate_batch(self, batch):
        return {"l1": self.net(batch["blob"]).abs()[:, 0]}

    def sample(self, noise, options, given=None, references=()):
        return self.net(noise.randn(1))
