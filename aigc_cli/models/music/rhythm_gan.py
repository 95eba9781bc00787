"""Adversarial network of drum patterns, of a style, tempo and density.

Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661, with the R1 penalty of Mescheder et al.,
2018, https://arxiv.org/abs/1801.04406. The generator's cells are deterministic binary neurons: Dong
and Yang, "Convolutional Generative Adversarial Networks with Binary Neurons for Polyphonic Music
Generation", 2018, https://arxiv.org/abs/1804.09399. So the discriminator, which sees grids and
their conditions, never sees half a hit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models.music._rhythm import MEASURES, RhythmModule, RhythmOptions, mlp
from aigc_cli.nn.adversarial import discriminator_loss, generator_loss, penalized
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec


class Config(Section):
    """The two networks."""

    TINY: ClassVar[Mapping[str, Any]] = {"latent_dim": 2, "hidden_dim": 8}

    latent_dim: int = Field(32, gt=0, le=1024)
    """Size of the noise vector z."""
    hidden_dim: int = Field(192, gt=0, le=8192)
    """Units of the two hidden layers of each network."""
    gamma: float = Field(1.0, ge=0, le=1000)
    """Weight of the penalty on the discriminator's gradient at real patterns."""
    density_weight: float = Field(1.0, ge=0, le=1000)
    """Weight of the squared difference of the density that was asked for, for the generator."""
    lr: float = Field(5e-4, gt=0, le=1)
    """Learning rate of both networks before the schedule, of Adam."""
    betas: tuple[float, float] = (0.0, 0.9)
    """Of Adam."""


class Model(RhythmModule, AdversarialModule):
    """Two networks and their game."""

    metrics: ClassVar[dict[str, Literal["max", "min"]]] = dict(MEASURES)
    averaged = ("generator",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        H, K = config.hidden_dim, self.styles + 2
        self.generator = mlp([config.latent_dim + K, H, H, self.cells])
        self.discriminator = mlp([self.cells + K, H, H, 1])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        networks = (self.discriminator, self.generator)
        return [torch.optim.Adam(net.parameters(), c.lr, c.betas) for net in networks]

    def _fake(self, z: Tensor, conditions: Tensor) -> Tensor:
        """z (B, Z) -> grids (B, S, 9) of 0 and 1, with the gradient of their probabilities."""
        p = self.generator(torch.cat([z, conditions], 1)).sigmoid().view(-1, *self.shape)
        return (p > 0.5).float() + p - p.detach()

    def _judged(self, grid: Tensor, conditions: Tensor) -> Tensor:
        return self.discriminator(torch.cat([grid.flatten(1), conditions], 1))[:, 0]

    def discriminator_loss(self, batch: Batch) -> Terms:
        c = self.conditions(batch)
        with torch.no_grad():
            fake = self._fake(self.randn(len(c), self.config.latent_dim), c)
        on_real, r1 = penalized(lambda grid: self._judged(grid, c), batch["grid"])
        on_fake = self._judged(fake, c)
        game = discriminator_loss("vanilla", on_real, on_fake)
        loss = game + self.config.gamma / 2 * r1
        return {"loss": loss, "real": on_real.mean(), "fake": on_fake.mean(), "penalty": r1}

    def generator_loss(self, batch: Batch) -> Terms:
        c = self.conditions(batch)
        fake = self._fake(self.randn(len(c), self.config.latent_dim), c)
        density = fake.sum((1, 2)) / self.spec.steps
        off = (density - batch["density"]).square().mean()
        game = generator_loss("vanilla", self._judged(fake, c))
        return {"loss": game + self.config.density_weight * off, "game": game, "density": off}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        return self.rhythm_values(batch)

    def draw(self, noise: SampleNoise, conditions: Tensor) -> Tensor:
        return self._fake(noise.randn(self.config.latent_dim).to(self.device), conditions)


class Options(RhythmOptions):
    """What is played."""
