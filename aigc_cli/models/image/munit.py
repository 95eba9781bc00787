"""MUNIT: unpaired translation with several answers; an image is its content and its style.

Huang, Liu, Belongie, Kautz, "Multimodal Unsupervised Image-to-Image Translation", ECCV 2018,
https://arxiv.org/abs/1804.04732. The networks, weights and Adam are those of the paper (appendix B)
and of the authors' settings for edges to shoes; their schedule is in the recipe `munit_256`.

Differs from the paper:
* each image is encoded once in a step: the generators step first, and the discriminators see
  those fakes, where the authors' code encodes and decodes again with other styles;
* small images get discriminators and style encoders with fewer halvings;
* the layer normalization before the last convolutions adds epsilon to the variance, not to the
  deviation, and convolutions before any normalization of means have no bias;
* no perceptual loss (weight 0 in most of the authors' settings);
* images beyond a tile are normalized by the statistics of their thumbnail (nn/norm.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.metrics.image._diversity import Distance, mean_distance_within
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._unpaired import SMALLEST, UnpairedModule, UnpairedOptions, l1_each
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.adversarial import discriminator_loss, generator_loss
from aigc_cli.nn.features import perceptual_distance
from aigc_cli.nn.init import init_normal
from aigc_cli.nn.norm import GroupNorm, InstanceNorm
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec

OUTPUTS = 4  # of one input, whose differences are its diversity


class Config(Section):
    """Two auto-encoders, two discriminators; the defaults are those of the paper."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "num_features": 4,
        "num_blocks": 1,
        "mlp_dim": 8,
        "discriminator_features": 4,
    }

    num_features: int = Field(64, gt=0, le=512)
    """Channels of encoders and decoders at full size; four times as many in their blocks."""
    num_blocks: int = Field(4, gt=0, le=32)
    """Residual blocks of a content encoder, and of a decoder."""
    style_dim: int = Field(8, gt=0, le=256)
    """Numbers in a style."""
    mlp_dim: int = Field(256, gt=0, le=4096)
    """Width of the layers that make the decoder's normalization from a style."""
    discriminator_features: int = Field(64, gt=0, le=512)
    """Channels after the first convolution of a discriminator."""
    discriminator_scales: int = Field(3, gt=0, le=4)
    """Discriminators of a domain, each on images half as large as the one before."""
    discriminator_layers: int | None = Field(None, gt=0, le=6)
    """Halvings in each; by default 4, or as many as the smallest scale allows."""
    gan_weight: float = Field(1.0, gt=0)
    """Weight of the adversarial loss."""
    image_weight: float = Field(10.0, ge=0)
    """Weight of the distance to an image decoded from its own content and style."""
    style_weight: float = Field(1.0, ge=0)
    """Weight of finding the style again in a fake."""
    content_weight: float = Field(1.0, ge=0)
    """Weight of finding the content again in a fake."""
    cycle_weight: float = Field(0.0, ge=0)
    """Weight of the distance to an image that went there and back; 10 for some of their sets."""
    features: str = Field("random:cnn", min_length=1)
    """Network in whose space validation compares fake and real images; none: 8 x 8 colors."""
    lr: float = Field(1e-4, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Adam's decay of the first and second moment."""
    weight_decay: float = Field(1e-4, ge=0)
    """L2 regularization of all weights."""


def conv(
    channels: int, out_channels: int, size: int, stride: int = 1, *, bias: bool = True
) -> nn.Conv2d:
    """Reflected borders; H and W are divided by the stride."""
    return nn.Conv2d(
        channels, out_channels, size, stride, (size - stride + 1) // 2, bias=bias,
        padding_mode="reflect",
    )  # fmt: skip


class ContentEncoder(nn.Sequential):
    """Image (B, C, H, W) -> content (B, 4 D, H/4, W/4), free of color by instance norm."""

    def __init__(self, channels: int, features: int, blocks: int) -> None:
        D = features
        layers: list[nn.Module] = []
        shapes = ((channels, D, 7, 1), (D, 2 * D, 4, 2), (2 * D, 4 * D, 4, 2))
        for before, width, size, stride in shapes:
            layers += [conv(before, width, size, stride, bias=False), InstanceNorm(), nn.ReLU(True)]
        super().__init__(*layers, *[ResidualBlock(4 * D) for _ in range(blocks)])


class ResidualBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), (B, D, H, W) -> same. With `style` (B, 4 D), mean and
    deviation of both normalizations are from there (AdaIN).
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = conv(features, features, 3, bias=False)
        self.conv2 = conv(features, features, 3, bias=False)
        self.norm1, self.norm2 = InstanceNorm(), InstanceNorm()

    def forward(self, x: Tensor, style: Tensor | None = None) -> Tensor:
        if style is None:
            return x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        mean1, std1, mean2, std2 = style[:, :, None, None].chunk(4, dim=1)
        h = F.relu(mean1 + std1 * self.norm1(self.conv1(x)))
        return x + mean2 + std2 * self.norm2(self.conv2(h))


class StyleEncoder(nn.Sequential):
    """Image (B, C, H, W) -> style (B, Z), whatever H and W."""

    def __init__(self, channels: int, features: int, style_dim: int, halvings: int) -> None:
        widths = [features * min(2**n, 4) for n in range(halvings + 1)]
        layers: list[nn.Module] = [conv(channels, features, 7), nn.ReLU(True)]
        for before, width in pairwise(widths):
            layers += [conv(before, width, 4, 2), nn.ReLU(True)]
        super().__init__(
            *layers,
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(widths[-1], style_dim, 1),
            nn.Flatten(),
        )


class Decoder(nn.Module):
    """Content (B, 4 D, h, w) and style (B, Z) -> image (B, C, 4 h, 4 w) in [-1, 1]."""

    def __init__(
        self, channels: int, features: int, blocks: int, style_dim: int, mlp_dim: int
    ) -> None:
        super().__init__()
        D = features
        self.mlp = nn.Sequential(
            nn.Linear(style_dim, mlp_dim),
            nn.ReLU(True),
            nn.Linear(mlp_dim, mlp_dim),
            nn.ReLU(True),
            nn.Linear(mlp_dim, blocks * 4 * 4 * D),
        )
        self.blocks = nn.ModuleList(ResidualBlock(4 * D) for _ in range(blocks))
        self.upsample = nn.Sequential(
            *[nn.Upsample(scale_factor=2), conv(4 * D, 2 * D, 5), GroupNorm(1, 2 * D)],
            *[nn.ReLU(True), nn.Upsample(scale_factor=2), conv(2 * D, D, 5), GroupNorm(1, D)],
            nn.ReLU(True),
        )
        self.tail = conv(D, channels, 7)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        x = content
        styles = self.mlp(style).chunk(len(self.blocks), dim=1)
        for block, block_style in zip(self.blocks, styles, strict=True):
            x = block(x, block_style)
        x = self.upsample(x)
        with torch.autocast(x.device.type, enabled=False):  # bf16 cannot hold 256 levels
            return torch.tanh(self.tail(x.float()))


class MultiScale(nn.Module):
    """Image (B, C, H, W) -> one map of logits for each scale; weights N(0, 0.02), no norm."""

    def __init__(self, channels: int, features: int, layers: int, scales: int) -> None:
        super().__init__()
        widths = [features * min(2**n, 8) for n in range(layers)]

        def judge() -> nn.Sequential:
            blocks: list[nn.Module] = []
            for before, width in zip([channels, *widths], widths, strict=False):
                blocks += [conv(before, width, 4, 2), nn.LeakyReLU(0.2, True)]
            return nn.Sequential(*blocks, nn.Conv2d(widths[-1], 1, 1))

        self.judges = nn.ModuleList(judge() for _ in range(scales))
        init_normal(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        logits = []
        for judge in self.judges:
            logits.append(judge(images))
            images = F.avg_pool2d(images, 3, 2, 1, count_include_pad=False)
        return logits


def kaiming(network: nn.Module) -> None:
    """Weights N(0, 2 / inputs) and biases 0; the authors' scale of a layer norm is uniform."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, GroupNorm):
            nn.init.uniform_(layer.weight)


class Model(UnpairedModule):
    """content_*, style_* encode images of a domain, decoder_* makes them."""

    averaged = ("content_a", "content_b", "style_a", "style_b", "decoder_a", "decoder_b")
    reference_count = (0, 1)
    measures: ClassVar[dict[str, Literal["max", "min"]] | None] = {
        "block_kid": "min",
        "cycle_l1": "min",
        "diversity": "max",
        "content_l1": "min",
    }
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        C, S, c = self.spec.channels, self.spec.image_size, config
        smallest = S
        for _ in range(c.discriminator_scales - 1):
            smallest = -(-smallest // 2)
        most = smallest.bit_length() - 1  # halvings of the smallest scale until one pixel is left
        layers = c.discriminator_layers or min(4, most)
        if layers > most or most < 1:
            raise InputError(
                f"model.discriminator_scales={c.discriminator_scales} and {layers} layers are too "
                f"many for data.image_size={S}",
                hint="lower model.discriminator_scales or discriminator_layers",
            )
        halvings = min(4, S.bit_length() - 1)
        D, Z = c.num_features, c.style_dim
        self.content_a, self.content_b = (ContentEncoder(C, D, c.num_blocks) for _ in "ab")
        self.style_a, self.style_b = (StyleEncoder(C, D, Z, halvings) for _ in "ab")
        self.decoder_a, self.decoder_b = (Decoder(C, D, c.num_blocks, Z, c.mlp_dim) for _ in "ab")
        for name in self.averaged:
            kaiming(getattr(self, name))
        self.discriminator_a, self.discriminator_b = (
            MultiScale(C, c.discriminator_features, layers, c.discriminator_scales) for _ in "ab"
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        c = self.config
        discriminators = [self.discriminator_a, self.discriminator_b]
        generators = [getattr(self, name) for name in self.averaged]
        return [
            fused_adam(
                [p for network in networks for p in network.parameters()],
                c.lr,
                c.betas,
                weight_decay=c.weight_decay,
            )
            for networks in (discriminators, generators)
        ]

    def generator_loss(self, batch: Batch) -> Terms:
        a, b, c = batch["a"], batch["b"], self.config
        B = len(a)
        drawn_a, drawn_b = self._draw(B)
        content_a, content_b = self.content_a(a), self.content_b(b)
        style_a, style_b = self.style_a(a), self.style_b(b)
        both = torch.cat([content_a, content_b])
        same_a, fake_a = self.decoder_a(both, torch.cat([style_a, drawn_a])).split(B)
        fake_b, same_b = self.decoder_b(both, torch.cat([drawn_b, style_b])).split(B)
        self.stash_fakes(fake_a, fake_b)
        again_a, again_b = self.content_b(fake_b), self.content_a(fake_a)

        terms = {
            "gan_ab": _sum(generator_loss("lsgan", x) for x in self.discriminator_b(fake_b)),
            "gan_ba": _sum(generator_loss("lsgan", x) for x in self.discriminator_a(fake_a)),
            "image": _mean(same_a, a) + _mean(same_b, b),
            "content": _mean(again_a, content_a) + _mean(again_b, content_b),
            "style": _mean(self.style_a(fake_a), drawn_a) + _mean(self.style_b(fake_b), drawn_b),
        }
        loss = (
            c.gan_weight * (terms["gan_ab"] + terms["gan_ba"])
            + c.image_weight * terms["image"]
            + c.content_weight * terms["content"]
            + c.style_weight * terms["style"]
        )
        if c.cycle_weight:
            terms["cycle"] = _mean(self.decoder_a(again_a, style_a), a) + _mean(
                self.decoder_b(again_b, style_b), b
            )
            loss = loss + c.cycle_weight * terms["cycle"]
        return {"loss": loss, **terms, **self.seen(batch, fake_a, fake_b)}

    def discriminator_loss(self, batch: Batch) -> Terms:
        fake_a, fake_b = self.stashed_fakes(batch)
        loss_a = _judged(self.discriminator_a, batch["a"], fake_a)
        loss_b = _judged(self.discriminator_b, batch["b"], fake_b)
        return {"loss": self.config.gan_weight * (loss_a + loss_b), "a": loss_a, "b": loss_b}

    def fakes(self, batch: Batch) -> tuple[Tensor, ...]:
        drawn_a, drawn_b = self._draw(len(batch["a"]))
        return (
            self.decoder_a(self.content_b(batch["b"]), drawn_a),
            self.decoder_b(self.content_a(batch["a"]), drawn_b),
        )

    def _draw(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Styles of fakes in A and in B, (B, Z) each."""
        a, b = self.randn(batch_size, 2, self.config.style_dim).unbind(1)
        return a, b

    def there_and_back(self, batch: Batch, noise: SampleNoise) -> dict[str, Tensor]:
        drawn_a, drawn_b = noise.randn(2, self.config.style_dim).to(self.device).unbind(1)
        a, b = batch["a"], batch["b"]
        fake_a = self.decoder_a(self.content_b(b), drawn_a)
        fake_b = self.decoder_b(self.content_a(a), drawn_b)
        cycle_a = self.decoder_a(self.content_b(fake_b), self.style_a(a))
        cycle_b = self.decoder_b(self.content_a(fake_a), self.style_b(b))
        return {"fake_a": fake_a, "fake_b": fake_b, "cycle_a": cycle_a, "cycle_b": cycle_b}

    def measure(self, batch: Batch, options: Section) -> dict[str, Tensor]:
        """Also `diversity`: mean perceptual distance between 4 outputs of one input, L1 where the
        recipe names no features; `content_l1`: mean absolute distance between the content of a
        image and that of its outputs.
        """
        assert isinstance(options, Options)
        content, _, decoder, back = self._way(options.direction)
        images = batch["a" if options.direction == "a2b" else "b"]
        B, Z = len(images), self.config.style_dim
        given = content(images).repeat_interleave(OUTPUTS, 0)
        styles = self.val_noise(B).randn(OUTPUTS, Z).flatten(0, 1).to(self.device)
        outputs = decoder(given, styles)
        distance = (back(outputs) - given).abs().flatten(1).mean(1).unflatten(0, (B, OUTPUTS))
        outputs = outputs.unflatten(0, (B, OUTPUTS))
        return {
            **self.evaluate_batch(batch),
            "diversity": mean_distance_within(outputs, self._apart),
            "content_l1": distance.mean(1),
        }

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """Also how far different images of the batch are from each other: the target's domain by
        `diversity`, the content of the source's by `content_l1`.
        """
        found = super().baselines(batch)
        a, b = batch["a"], batch["b"]
        if len(a) < 2:
            return found
        content = self.content_a(a)
        others = {
            "diversity": self._apart(b, b.roll(1, 0)),
            "content_l1": l1_each(content, content.roll(1, 0)),
        }
        return {**found, "other images": others}

    @property
    def _apart(self) -> Distance:
        return partial(perceptual_distance, self.features) if self.has_features else l1_each

    @torch.no_grad()
    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """Any size; as many different results as asked for, or the one in the style of an image of
        the target domain.
        """
        assert given is not None
        source = options.brought(given[None])
        content, style_encoder, decoder, _ = self._way(options.direction)
        if references:
            styles = style_encoder(self._reference(references[0])).expand(noise.count, -1)
        else:
            styles = noise.randn(self.config.style_dim).to(given.device)

        def translated(style: Tensor) -> Tensor:
            def net(x: Tensor) -> Tensor:
                made: Tensor = decoder(content(x), style.expand(len(x), -1))
                return made

            norms = nn.ModuleList([content, decoder])
            return options.apply(net, source, multiple=SMALLEST, norms=norms)

        if references:
            return translated(styles[0]).expand(noise.count, -1, -1, -1)
        return torch.cat([translated(style) for style in styles])

    def _reference(self, picture: Tensor) -> Tensor:
        """(C, h, w) at the scale of the training images, (1, C, h', w')."""
        scale = self.spec.image_size / min(picture.shape[-2:])
        size = [max(self.spec.image_size, round(scale * side)) for side in picture.shape[-2:]]
        return F.interpolate(picture[None], size=size, mode="bilinear", antialias=True)

    def _way(self, direction: str) -> tuple[nn.Module, nn.Module, nn.Module, nn.Module]:
        """Content encoder of the source; style encoder, decoder and content encoder of the
        target.
        """
        if direction == "a2b":
            return self.content_a, self.style_b, self.decoder_b, self.content_b
        return self.content_b, self.style_a, self.decoder_a, self.content_a


class Options(UnpairedOptions):
    """What `aigc sample` may set."""


def _judged(discriminator: MultiScale, real: Tensor, fake: Tensor) -> Tensor:
    """Sum over the scales."""
    says = (x.split(len(real)) for x in discriminator(torch.cat([real, fake])))
    return _sum(discriminator_loss("lsgan", *pair) for pair in says)


def _mean(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).abs().mean()


def _sum(values: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum()
