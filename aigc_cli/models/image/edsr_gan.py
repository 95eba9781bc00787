"""EDSR with two discriminators: sharp texture instead of the mean of all that is possible.

Park, Son, Cho, Hong, Lee, "SRFeat: Single Image Super-Resolution with Feature Discrimination", ECCV
2018, on the generator of EDSR (Lim et al. 2017). One discriminator judges images, the other the
features that a frozen network sees in them; the content loss compares these features. Starts from
a trained EDSR by `init_from`.

Differs from the paper:
* the generator is EDSR, so that any EDSR checkpoint of the same size is the start;
* an L1 term of weight 1e-2 holds the colors; the paper has no loss on pixels;
* spectral normalization in both discriminators (Miyato et al. 2018) instead of batch normalization,
  or R1 (Mescheder et al. 2018);
* features are seen of images that are cut anew in every step (`shift`): networks such as
  EfficientNet look at every second pixel first, and what they overlook became a grid;
* the discriminators average over positions before their dense layers, so that patches of any size
  fit, and a moving average of the generator's weights is what validates and samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from aigc_cli.errors import Problem, RecipeError
from aigc_cli.models._adversarial import AdversarialModule
from aigc_cli.models._base import Batch, Run, Terms
from aigc_cli.models.image._super_resolution import (
    PAIRS,
    SuperResolutionModule,
    SuperResolutionOptions,
)
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.adversarial import (
    Objective,
    discriminator_loss,
    generator_loss,
    zero_centered_penalty,
)
from aigc_cli.nn.edsr import EDSR
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.specs import Spec
from aigc_cli.specs.image import SuperResolutionSpec


class Config(Section):
    """The generator as in EDSR, the frozen network, the weights of the losses, the optimizers."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "num_blocks": 2,
        "num_features": 4,
        "features": "random:cnn",
        "feature_layer": "relu2_1",
        "feature_channels": 64,
        "disc_features": 4,
    }

    num_blocks: int = Field(16, gt=0, le=128)
    """Residual blocks of the generator, as in the EDSR that it starts from."""
    num_features: int = Field(64, gt=0, le=1024)
    """Channels of every block of the generator, as in that EDSR."""
    residual_scale: float = Field(1.0, gt=0, le=1)
    """Factor on the branch of each block, as in that EDSR."""
    features: Name = "efficientnet_lite0"
    """Frozen network that sees the features: efficientnet_lite0, vgg19, vgg16, PATH.pth, RUN of a
    classifier, random:vgg19, random:cnn.
    """
    feature_layer: Name = "layer2_2"
    """Its layer that is compared and judged; the paper's is conv5_4 of vgg19. Patches must be large
    enough to reach it.
    """
    feature_channels: int = Field(24, gt=0)
    """Channels of that layer; 512 of conv5_4."""
    feature_scale: float = Field(0.1, gt=0)
    """Factor on the features, which then have a mean square near 1; 0.0784 for conv5_4 of vgg19."""
    shift: int = Field(3, ge=0, le=32)
    """Most pixels that are cut off above and on the left before features are seen in training."""
    disc_features: int = Field(64, gt=0, le=256)
    """Channels of the first convolution of both discriminators."""
    spectral: bool = True
    """Divide the weights of both discriminators by their spectral norm; false has batch
    normalization as in the paper.
    """
    r1: float = Field(0.0, ge=0)
    """Weight gamma of the penalty on the gradient at real images and features; 0 for none."""
    objective: Objective = "vanilla"
    """What generator and discriminators play for."""
    content: float = Field(1.0, ge=0)
    """Weight of the mean squared difference of features."""
    adversarial: float = Field(1e-3, ge=0)
    """Weight of what the discriminator of images says."""
    feature_adversarial: float = Field(1e-3, ge=0)
    """Weight of what the discriminator of features says."""
    l1: float = Field(1e-2, ge=0)
    """Weight of the mean absolute difference of images in [0, 1]."""
    lr: float = Field(1e-4, gt=0, le=1)
    """Adam's learning rate of the generator before the schedule."""
    disc_lr: float = Field(1e-4, gt=0, le=1)
    """That of the discriminators."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first and second moment, of all."""


class Discriminator(nn.Module):
    """Images or features (B, C, H, W) -> logit (B,): eight convolutions, every second with stride
    2, and two dense layers, as in SRGAN (Ledig et al. 2017, figure 4).
    """

    def __init__(self, channels: int, features: int, *, spectral: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for number in range(8):
            width = features * 2 ** (number // 2)
            has_norm = number > 0 and not spectral
            layers.append(nn.Conv2d(before, width, 3, 1 + number % 2, 1, bias=not has_norm))
            layers += [nn.BatchNorm2d(width)] if has_norm else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            before = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 16 * features)]
        layers += [nn.LeakyReLU(0.2, inplace=True), nn.Linear(16 * features, 1)]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers if spectral else ():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                spectral_norm(layer)

    def forward(self, x: Tensor) -> Tensor:
        logit: Tensor = self.layers(x)
        return logit.squeeze(1)


class Model(SuperResolutionModule, AdversarialModule):
    """`net` against `discriminator`, of images, and `feature_discriminator`."""

    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "feature_distance": "min",
        **dict.fromkeys(PAIRS, "max"),
    }
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, SuperResolutionSpec)
        c = config
        self.net = EDSR(
            spec.channels,
            spec.scale,
            num_blocks=c.num_blocks,
            num_features=c.num_features,
            residual_scale=c.residual_scale,
        )
        self.discriminator = Discriminator(spec.channels, c.disc_features, spectral=c.spectral)
        self.feature_discriminator = Discriminator(
            c.feature_channels, c.disc_features, spectral=c.spectral
        )

    def prepare(self, run: Run) -> None:
        super().prepare(run)
        c = self.config
        found = self.features.channels.get(c.feature_layer, c.feature_channels)
        if found != c.feature_channels:
            raise RecipeError(
                [
                    Problem(
                        f"layer '{c.feature_layer}' of {self.features.stamp} has {found} channels, "
                        f"not {c.feature_channels}",
                        key="model.feature_channels",
                        hint=f"set it to {found}",
                    )
                ]
            )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        judges = [*self.discriminator.parameters(), *self.feature_discriminator.parameters()]
        return [
            fused_adam(judges, c.disc_lr, c.betas),
            fused_adam(self.net.parameters(), c.lr, c.betas),
        ]

    def discriminator_loss(self, batch: Batch) -> Terms:
        c, real = self.config, batch["high"]
        with torch.no_grad():
            fake = self.net(batch["low"])
            real_seen, fake_seen = map(self.seen, self._cut(real, fake))
        terms = {
            "image": self._judged(self.discriminator, real, fake),
            "feature": self._judged(self.feature_discriminator, real_seen, fake_seen),
        }
        loss = terms["image"] + terms["feature"]
        if c.r1:
            penalty = zero_centered_penalty(self.discriminator, real)
            penalty = penalty + zero_centered_penalty(self.feature_discriminator, real_seen)
            terms["r1"] = penalty
            loss = loss + c.r1 / 2 * penalty
        return {"loss": loss, **terms}

    def _judged(self, judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        return discriminator_loss(self.config.objective, judge(real), judge(fake))

    def generator_loss(self, batch: Batch) -> Terms:
        c, real = self.config, batch["high"]
        fake = self.net(batch["low"])
        real_cut, fake_cut = self._cut(real, fake)
        with torch.no_grad():
            real_seen = self.seen(real_cut)
        fake_seen = self.seen(fake_cut)
        terms = {
            "content": (fake_seen - real_seen).square().mean(),
            "adversarial": self._answer(self.discriminator, real, fake),
            "feature_adversarial": self._answer(self.feature_discriminator, real_seen, fake_seen),
            "l1": (fake - real).abs().mean() / 2,
        }
        weights = (c.content, c.adversarial, c.feature_adversarial, c.l1)
        loss = torch.stack([w * t for w, t in zip(weights, terms.values(), strict=True)]).sum()
        return {"loss": loss, **terms}

    def _answer(self, judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        kind = self.config.objective
        return generator_loss(kind, judge(fake), judge(real) if kind == "relativistic" else None)

    def health(self, means: dict[str, float]) -> list[str]:
        """A discriminator wins that is nearly always right; a cross-entropy has 1.39 at a draw."""
        if self.config.objective != "vanilla":
            return []
        names = {"d_image": "discriminator wins", "d_feature": "feature discriminator wins"}
        return [text for name, text in names.items() if means.get(name, 1.0) < 0.05]

    def _cut(self, real: Tensor, fake: Tensor) -> list[Tensor]:
        """Both (B, C, H, W) without `shift` rows and columns, each pair at a place of its own."""
        H, W = real.shape[2:]
        most = min(self.config.shift, H // 2, W // 2)
        if not most:
            return [real, fake]
        places = (self.rand(len(real), 2) * (most + 1)).long().tolist()
        h, w = H - most, W - most
        return [
            torch.stack(
                [one[:, y : y + h, x : x + w] for one, (y, x) in zip(each, places, strict=True)]
            )
            for each in (real, fake)
        ]

    def seen(self, images: Tensor) -> Tensor:
        """Scaled features (B, D, h', w') of images (B, C, H, W)."""
        layer = self.config.feature_layer
        return self.config.feature_scale * self.features(images, [layer])[layer]

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """`feature_distance` is the content loss: small values are no proof of quality, since the
        generator was trained for them.
        """
        made = self.super_resolve(batch["low"], SuperResolutionOptions()).clamp(-1, 1)
        distance = (self.seen(made) - self.seen(batch["high"])).square().flatten(1).mean(1)
        return {"feature_distance": distance, **super().evaluate_batch(batch)}


class Options(SuperResolutionOptions):
    """What `aigc sample` may set."""
