"""A GAN of two small networks, which proves that a family is two files: this one and its recipe.

Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661, with the non-saturating loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec


class Config(Section):
    """Both networks have one hidden layer."""

    latent_dim: int = Field(4, gt=0)
    """Size of the noise vector z."""
    hidden_dim: int = Field(16, gt=0)
    """Width of the hidden layer of both networks."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """In the discriminator."""
    lr: float = Field(1e-3, gt=0)
    """Adam, both networks."""
    d_steps: int = Field(1, gt=0)
    """Discriminator steps in one iteration."""


class Model(ImageModule, AdversarialModule):
    """z (B, Z) -> image (B, C, S, S) in [-1, 1]; image -> one logit."""

    accepts = (ImageSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {"distance": "min"}
    averaged = ("generator",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, ImageSpec)
        self.shape = (spec.channels, spec.image_size, spec.image_size)
        self.d_steps = config.d_steps
        pixels, D = spec.channels * spec.image_size**2, config.hidden_dim
        self.generator = nn.Sequential(
            nn.Linear(config.latent_dim, D), nn.ReLU(), nn.Linear(D, pixels), nn.Tanh()
        )
        self.discriminator = nn.Sequential(
            nn.Flatten(),
            nn.Linear(pixels, D),
            nn.LeakyReLU(0.2),
            nn.Dropout(config.dropout),
            nn.Linear(D, 1),
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        adam = {"lr": self.config.lr, "betas": (0.5, 0.999)}
        return [
            torch.optim.Adam(self.discriminator.parameters(), **adam),
            torch.optim.Adam(self.generator.parameters(), **adam),
        ]

    def _fake(self, batch: Batch) -> Tensor:
        z = self.randn(len(batch["image"]), self.config.latent_dim)
        return self.generator(z).unflatten(1, self.shape)

    def discriminator_loss(self, batch: Batch) -> Terms:
        real = F.softplus(-self.discriminator(batch["image"])).mean()
        fake = F.softplus(self.discriminator(self._fake(batch).detach())).mean()
        return {"loss": real + fake, "real": real, "fake": fake}

    def generator_loss(self, batch: Batch) -> Terms:
        return {"loss": F.softplus(-self.discriminator(self._fake(batch))).mean()}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """Mean absolute distance of the image to what z = 0 makes."""
        made = self.generator(torch.zeros(1, self.config.latent_dim, device=self.device))
        return {"distance": (batch["image"].flatten(1) - made).abs().mean(1)}

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        z = options.truncation * noise.randn(self.config.latent_dim).to(self.device)
        return self.generator(z).unflatten(1, self.shape)


class Options(Section):
    """What `aigc sample` may set."""

    truncation: float = Field(1.0, gt=0, le=1)
    """Factor on the noise."""
