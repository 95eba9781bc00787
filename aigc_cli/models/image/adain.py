"""AdaIN: any style, given by an image, in one pass.

Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017, https://arxiv.org/abs/1703.06868. A frozen network encodes photograph and style, the
moments of the style replace those of the photograph, and a decoder, the only thing trained, makes a
image of it. Domain A are photographs, domain B paintings.

Differs from the paper:
* the encoder is whatever `features` names and is stored in the checkpoint; by default
  EfficientNet-Lite0, whose narrow layers each hold too little to paint from: with `skips` moments
  are exchanged in all of them and the decoder reads all. For the paper's decoder, which mirrors
  VGG19: features=vgg19, layers relu1_1 to relu4_1 of 64 to 512 channels, stride=1, skips=false;
* distances are relative (nn/style.py); the weights 1 and 10 are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.models._tiles import TileOptions
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.classifier import VGG_DEPTHS
from aigc_cli.nn.features import FeatureNetwork
from aigc_cli.nn.style import (
    adain,
    moment_distance,
    moments,
    relative,
    require_style,
    with_colors_of,
)
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import UnpairedSpec

Moments = dict[str, tuple[Tensor, Tensor]]
"""Mean and deviation of every channel, (1, C, 1, 1) each, by layer."""


class Config(Section):
    """The encoder's stages, the decoder and its optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "features": "random:cnn",
        "layers": ("relu1_1", "relu2_1", "relu3_1", "relu4_1"),
        "channels": (32, 64, 128, 256),
        "stride": 1,
        "widths": (8, 8, 8, 8),
    }

    features: Name = "efficientnet_lite0"
    """Encoder: efficientnet_lite0, vgg19, vgg16, random:vgg19, a classifier's run or a .pth file of
    VGG.
    """
    layers: tuple[Name, ...] = Field(
        ("layer1_1", "layer2_2", "layer3_2", "layer5_3"), min_length=1, max_length=5
    )
    """One layer of each stage of the encoder, each half as large as the one before."""
    channels: tuple[int, ...] = (16, 24, 40, 112)
    """Channels of those layers."""
    stride: Literal[1, 2] = 2
    """Pixels of a side of one place of the first layer."""
    skips: bool = True
    """Exchange the moments of all layers and paint from all, not from the deepest alone."""
    widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of the decoder at those layers."""
    content_weight: float = Field(1.0, ge=0)
    """Weight of the distance of the deepest activations from those asked for."""
    style_weight: float = Field(10.0, ge=0)
    """Weight of the distance of means and deviations, over all layers."""
    lr: float = Field(1e-4, gt=0, le=1)
    """Adam's learning rate."""

    @model_validator(mode="after")
    def _a_width_for_each_layer(self) -> Config:
        for name in ("channels", "widths"):
            numbers = getattr(self, name)
            if len(self.layers) != len(numbers):
                raise ValueError(f"{len(self.layers)} layers need as many {name}, not {numbers}")
        return self


class Decoder(nn.Module):
    """Activations (B, channels[s], h / 2^s, w / 2^s), the deepest or all -> image (B, C, stride h,
    stride w) in about [-1, 1]: VGG19 backwards from the first convolution of its deepest stage,
    with nearest neighbors for poolings and reflected borders, as in the paper.
    """

    def __init__(self, config: Config, out: int) -> None:
        super().__init__()
        widths, skips = config.widths, config.skips
        depths = [*VGG_DEPTHS["vgg19"][: len(widths) - 1], 1]
        before = config.channels[-1]
        self.stages = nn.ModuleList()  # the deepest first
        for s in reversed(range(len(widths))):
            deepest = s == len(widths) - 1
            layers: list[nn.Module] = []
            before += config.channels[s] if skips and not deepest else 0
            for _ in range(depths[s] - 1):
                layers += [_conv(before, widths[s]), nn.ReLU()]
                before = widths[s]
            if s:
                layers += [_conv(before, widths[s - 1]), nn.ReLU(), nn.Upsample(scale_factor=2)]
                before = widths[s - 1]
            self.stages.append(nn.Sequential(*layers))
        enlarge = [nn.Upsample(scale_factor=2)] if config.stride == 2 else []
        self.last = nn.Sequential(*enlarge, _conv(before, out))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """levels: of all layers, the deepest last, or the deepest alone."""
        *rest, x = levels
        for number, stage in enumerate(self.stages):
            x = stage(torch.cat([x, rest[-number]], 1) if number and rest else x)
        image: Tensor = self.last(x)
        return image


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")


class Model(ImageModule):
    """Only the decoder learns; Adam."""

    accepts = (UnpairedSpec,)
    takes = "image"
    reference_count = (1, 1)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "loss": "min",
        "content": "min",
        "style": "min",
    }
    averaged = ("decoder",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, UnpairedSpec)
        self.decoder = Decoder(config, spec.channels)
        # A halving more than the deepest layer has, so that borders can be reflected.
        self.multiple = config.stride * 2 ** len(config.widths)

    @property
    def exchanged(self) -> tuple[str, ...]:
        """Layers whose moments are exchanged."""
        return self.config.layers if self.config.skips else self.config.layers[-1:]

    def suited(self, network: FeatureNetwork) -> FeatureNetwork:
        """Without what lies behind the deepest layer.

        Raises:
            InputError: its layers have other channels or strides than the decoder reads.
        """
        c = self.config
        network = network.upto(c.layers)
        strides = [network.strides[name] for name in c.layers]
        if strides != (expected := [c.stride * 2**s for s in range(len(c.layers))]):
            raise InputError(
                f"model.layers={list(c.layers)}: their strides in {network.stamp} are {strides}, "
                f"not {expected}",
                hint=f"choose one layer of each stage, and model.stride={strides[0]}",
            )
        found = tuple(network.channels[name] for name in c.layers)
        if found != c.channels:
            raise InputError(
                f"model.channels={list(c.channels)}: the layers of {network.stamp} have "
                f"{list(found)}",
                hint=f"set model.channels={list(found)}",
            )
        return network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return fused_adam(self.decoder.parameters(), self.config.lr)

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Activations in fp32 by layer."""
        found = self.features(images, self.config.layers)
        return {name: x.float() for name, x in found.items()}

    def loss(self, batch: Batch) -> Terms:
        return {name: value.mean() for name, value in self._judge(batch)[1].items()}

    def _judge(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Stylized images (B, C, H, W), and distances from what was asked for, (B,) each."""
        c, deepest = self.config, self.config.layers[-1]
        with torch.no_grad():
            content, style = self.encode(batch["a"]), self.encode(batch["b"])
            targets = {name: adain(content[name], style[name]) for name in self.exchanged}
        made = self.decoder(list(targets.values()))
        found = self.encode(made)
        terms = {
            "content": relative(found[deepest], targets[deepest]),
            "style": moment_distance(found, style),
        }
        loss = c.content_weight * terms["content"] + c.style_weight * terms["style"]
        return made, {"loss": loss, **terms}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        terms = self._judge(batch)[1]
        return {name: terms[name] for name in self.metrics}

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """How far the style of the photographs themselves is from the one asked for."""
        distance = moment_distance(self.encode(batch["a"]), self.encode(batch["b"]))
        return {"identity": {"style": distance}}

    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """The same answer for each row of noise: the network uses none.

        Raises:
            InputError: the style is too small.
        """
        assert given is not None
        (reference,) = references
        require_style(reference)
        style = self._moments(reference[None], options.tile)

        def paint(x: Tensor, whole: Moments | None = None) -> Tensor:
            seen, levels = self.encode(x), []
            for name in self.exchanged:
                mean, deviation = whole[name] if whole else moments(seen[name])
                target = (seen[name] - mean) / deviation * style[name][1] + style[name][0]
                levels.append(torch.lerp(seen[name], target, options.strength))
            made: Tensor = self.decoder(levels)
            return made

        cut = 0 < options.tile < max(given.shape[1:])
        whole = self._moments(given[None], options.tile) if cut else None
        made = options.apply(lambda x: paint(x, whole), given[None], multiple=self.multiple)
        if options.preserve_colors and given.shape[0] == 3:
            made = with_colors_of(made, given[None])
        return made.expand(noise.count, -1, -1, -1)

    def _moments(self, image: Tensor, tile: int) -> Moments:
        """Moments by layer of an image (1, C, H, W), put together from those of its tiles."""
        if tile == 0 or max(image.shape[2:]) <= tile:
            seen = self.encode(image)
            return {name: moments(seen[name]) for name in self.exchanged}
        sums: dict[str, list[Any]] = {name: [0, 0.0, 0.0] for name in self.exchanged}
        for part in (part for row in image.split(tile, 2) for part in row.split(tile, 3)):
            if min(part.shape[2:]) < self.multiple:
                continue
            seen = self.encode(part)
            for name, total in sums.items():
                x = seen[name].double()
                total[0] += x[0, 0].numel()
                total[1] = total[1] + x.sum((2, 3), keepdim=True)
                total[2] = total[2] + x.square().sum((2, 3), keepdim=True)
        found = {}
        for name, (count, total, square) in sums.items():
            mean = total / count
            deviation = (square / count - mean.square() + 1e-5).clamp(min=1e-5).sqrt()
            found[name] = (mean.float(), deviation.float())
        return found


class Options(TileOptions):
    """What `aigc sample` may set."""

    strength: float = Field(1.0, ge=0, le=1)
    """0 leaves the photograph as the decoder knows it, 1 is the whole style; the paper's alpha."""
    preserve_colors: bool = False
    """Keep the photograph's colors and take only the lightness of what was painted."""
