"""Colors for gray photographs, by a conditional GAN in Lab: pix2pix from lightness to chroma.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, section 4.1, https://arxiv.org/abs/1611.07004: a U-Net gives a and b of a lightness, a
PatchGAN judges patches of all three, and L1 keeps the answer near the original. With
`pretrain_steps` the generator first learns from L1 alone, for a short adversarial phase afterwards
("NoGAN" of Antic's DeOldify).

Differs from the paper:
* dropout is off when images are colored: the answer is one, and the same every time;
* for any image size: chroma is predicted from an image reduced to a size that the U-Net can
  halve, which stretches it a little, and luminance keeps its full size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import Problem, RecipeError
from aigc_cli.media.lab import rgb_to_lab
from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Phase, Terms
from aigc_cli.models.image._color import ColorizationModule, ColorizationOptions
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.adversarial import Objective, discriminator_loss, generator_loss
from aigc_cli.nn.patchgan import PatchGAN
from aigc_cli.nn.unet_generator import UNetGenerator, depth_for, dropout_from
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec

AB = 110.0  # a and b are in about [-110, 100]


class Config(Section):
    """Both networks and their optimizers; the defaults are those of pix2pix."""

    TINY: ClassVar[Mapping[str, Any]] = {"num_features": 4, "disc_features": 4, "disc_layers": 1}

    num_features: int = Field(64, gt=0, le=256)
    """Channels of the generator's first convolution."""
    dropout: bool = True
    """Drop half of the activations in the innermost blocks of the generator while training."""
    disc_features: int = Field(64, gt=0, le=256)
    """Channels of the discriminator's first convolution."""
    disc_layers: int = Field(3, ge=1, le=5)
    """Strided convolutions of the discriminator: 3 judge patches of 70 pixels, 2 of 34, 1 of 16."""
    norm: Literal["batch", "instance"] = "batch"
    """Normalization in both networks."""
    objective: Objective = "vanilla"
    """What discriminator and generator play for."""
    l1: float = Field(100.0, ge=0)
    """Weight of the mean absolute difference of a and b, as fractions of 110."""
    pretrain_steps: int = Field(0, ge=0)
    """Steps at the start in which only L1 trains the generator."""
    prior_steps: int = Field(1000, ge=1)
    """Steps whose images give the frequencies of colors, for the measures alone."""
    lr: float = Field(2e-4, gt=0, le=1)
    """Adam's learning rate before the schedule, of both networks."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay of the first and second moment."""


class Model(ColorizationModule, AdversarialModule):
    """`generator`: lightness (B, 1, S, S) -> a and b (B, 2, S, S), all in [-1, 1];
    `discriminator`: the three planes of Lab -> logits of patches.
    """

    averaged = ("generator",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.prior_steps = config.prior_steps
        self._check_size()
        self.generator = UNetGenerator(
            1,
            2,
            depth_for(self.size),
            features=config.num_features,
            dropout=config.dropout,
            norm=config.norm,
        )
        self.discriminator = PatchGAN(3, config.disc_features, config.disc_layers, config.norm)

    def _check_size(self) -> None:
        least, layers = PatchGAN.smallest(self.config.disc_layers), self.config.disc_layers
        problem = None
        if self.size % 4:
            problem = f"{self.size} pixels cannot be halved twice", "choose a multiple of 4"
        elif self.size < least:
            problem = (
                f"{self.size} pixels are too few for model.disc_layers={layers}",
                f"{least} or more, or fewer layers",
            )
        if problem:
            raise RecipeError([Problem(problem[0], key="data.image_size", hint=problem[1])])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        return [
            fused_adam(network.parameters(), c.lr, c.betas)
            for network in (self.discriminator, self.generator)
        ]

    def phases(self) -> list[Phase]:
        both = super().phases()
        return both[-1:] if self.step < self.config.pretrain_steps else both

    def discriminator_loss(self, batch: Batch) -> Terms:
        L, ab = _planes(batch["image"])
        with torch.no_grad():
            fake = self._colored(L)
        logits = self.discriminator(torch.cat([L, ab], dim=1))
        fake_logits = self.discriminator(torch.cat([L, fake], dim=1))
        return {
            "loss": discriminator_loss(self.config.objective, logits, fake_logits),
            "real": logits.mean(),
            "fake": fake_logits.mean(),
        }

    def generator_loss(self, batch: Batch) -> Terms:
        c = self.config
        L, ab = _planes(batch["image"])
        fake = self._colored(L)
        l1 = (fake - ab).abs().mean()
        if self.step < c.pretrain_steps:
            return {"loss": c.l1 * l1, "l1": l1}
        real_logits = None
        if c.objective == "relativistic":
            real_logits = self.discriminator(torch.cat([L, ab], dim=1)).detach()
        logits = self.discriminator(torch.cat([L, fake], dim=1))
        adversarial = generator_loss(c.objective, logits, real_logits)
        return {"loss": adversarial + c.l1 * l1, "adversarial": adversarial, "l1": l1}

    def _colored(self, L: Tensor) -> Tensor:
        with dropout_from(self.generator, self.rand):  # of the items, however they are spread
            ab: Tensor = self.generator(L)
        return ab

    def chroma(self, L: Tensor, options: Section) -> Tensor:
        multiple = self.generator.multiple
        size = [max(1, (side + multiple // 2) // multiple) * multiple for side in L.shape[-2:]]
        if size != list(L.shape[-2:]):
            L = F.interpolate(L, size=size, mode="bilinear", antialias=True)
        ab: Tensor = AB * self.generator(L / 50 - 1)
        return ab

    def options(self) -> Options:
        return Options()


class Options(ColorizationOptions):
    """What `aigc sample` may set."""


def _planes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Lightness (B, 1, H, W), a and b (B, 2, H, W), in [-1, 1]."""
    L, ab = rgb_to_lab(images).split([1, 2], dim=1)
    return L / 50 - 1, ab / AB
