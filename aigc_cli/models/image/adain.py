"""AdaIN: any style, given by a picture, in one pass.

Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization",
ICCV 2017, https://arxiv.org/abs/1703.06868. A frozen network encodes photograph and style, the
moments of the style replace those of the photograph, and a decoder, the only thing trained, makes a
picture of it. Domain A are photographs, domain B paintings.

Differs from the paper:
* the encoder is whatever `features` names and is stored in the checkpoint; the decoder mirrors
  VGG19, as the paper's, with the encoder's `widths`;
* distances are relative (nn/style.py); the weights 1 and 10 are the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, GenerativeModule, Terms
from aigc_cli.models._tiles import TileOptions
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


class Config(Section):
    """The encoder's stages, the decoder and its optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {"features": "random:cnn", "widths": (32, 64, 128, 256)}

    features: Name = "vgg19"
    """Encoder: vgg19, vgg16, random:vgg19, a classifier's run or a .pth file."""
    layers: tuple[Name, ...] = Field(("relu1_1", "relu2_1", "relu3_1", "relu4_1"), min_length=1)
    """One layer of each stage of the encoder, the deepest last, where the moments are exchanged."""
    widths: tuple[int, ...] = Field((64, 128, 256, 512), min_length=1, max_length=5)
    """Channels of those layers."""
    content_weight: float = Field(1.0, ge=0)
    """Weight of the distance of the deepest activations from those asked for."""
    style_weight: float = Field(10.0, ge=0)
    """Weight of the distance of means and deviations, over all layers."""
    lr: float = Field(1e-4, gt=0, le=1)
    """Adam's learning rate."""

    @model_validator(mode="after")
    def _a_width_for_each_layer(self) -> Config:
        if len(self.layers) != len(self.widths):
            raise ValueError(f"{len(self.layers)} layers need as many widths, not {self.widths}")
        return self


class Decoder(nn.Module):
    """Activations (B, widths[-1], h, w) -> picture (B, C, s h, s w) in about [-1, 1], s = 2 to the
    number of stages less one: VGG19 backwards from the first convolution of its deepest stage, with
    nearest neighbours for poolings and reflected borders, as in the paper.
    """

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        depths = [*VGG_DEPTHS["vgg19"][: len(widths) - 1], 1]
        layers: list[nn.Module] = []
        for s in reversed(range(len(widths))):
            for _ in range(depths[s] - 1):
                layers += [_conv(widths[s], widths[s]), nn.ReLU()]
            if s:
                layers += [_conv(widths[s], widths[s - 1]), nn.ReLU(), nn.Upsample(scale_factor=2)]
        self.layers = nn.Sequential(*layers, _conv(widths[0], channels))

    def forward(self, x: Tensor) -> Tensor:
        image: Tensor = self.layers(x)
        return image


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")


class Model(GenerativeModule):
    """Only the decoder learns; Adam."""

    accepts = (UnpairedSpec,)
    makes = "translations"
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
        self.decoder = Decoder(config.widths, spec.channels)
        self.multiple = 2 ** len(config.widths)  # a halving more, so that borders can be reflected

    def suited(self, network: FeatureNetwork) -> FeatureNetwork:
        """Without what lies behind the deepest layer.

        Raises:
            InputError: it has other widths than the decoder.
        """
        c = self.config
        network = network.upto(c.layers)
        found = tuple(network.channels[name] for name in c.layers)
        if found != c.widths:
            raise InputError(
                f"model.widths={list(c.widths)}: the layers of {network.stamp} have {list(found)}",
                hint=f"set model.widths={list(found)}",
            )
        return network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.decoder.parameters(), self.config.lr)

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Activations in fp32 by layer."""
        found = self.features(images, self.config.layers)
        return {name: x.float() for name, x in found.items()}

    def loss(self, batch: Batch) -> Terms:
        return {name: value.mean() for name, value in self._judge(batch)[1].items()}

    def _judge(self, batch: Batch) -> tuple[Tensor, Terms]:
        """Stylised pictures (B, C, H, W), and distances from what was asked for, (B,) each."""
        c, deepest = self.config, self.config.layers[-1]
        with torch.no_grad():
            content, style = self.encode(batch["a"]), self.encode(batch["b"])
            target = adain(content[deepest], style[deepest])
        made = self.decoder(target)
        found = self.encode(made)
        terms = {
            "content": relative(found[deepest], target),
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

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        deepest = self.config.layers[-1]
        return {
            "photo": batch["a"],
            "style": batch["b"],
            "made": self._judge(batch)[0],
            "decoded": self.decoder(self.encode(batch["a"])[deepest]),
        }

    def translate(
        self,
        image: Tensor,
        options: Options,
        noise: SampleNoise,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """The same answer for each row of noise: the network uses none.

        Raises:
            InputError: the style is too small.
        """
        deepest, (reference,) = self.config.layers[-1], references
        require_style(reference)
        style = self._moments(reference[None], options.tile)

        def paint(x: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
            content = self.encode(x)[deepest]
            mean, deviation = statistics or moments(content)
            target = (content - mean) / deviation * style[1] + style[0]
            made: Tensor = self.decoder(torch.lerp(content, target, options.strength))
            return made

        cut = 0 < options.tile < max(image.shape[1:])
        whole = self._moments(image[None], options.tile) if cut else None
        made = options.apply(lambda x: paint(x, whole), image[None], multiple=self.multiple)
        if options.preserve_colors and image.shape[0] == 3:
            made = with_colors_of(made, image[None])
        return made.expand(noise.count, -1, -1, -1)

    def _moments(self, image: Tensor, tile: int) -> tuple[Tensor, Tensor]:
        """Moments of a picture (1, C, H, W), put together from those of its tiles if it has any."""
        deepest = self.config.layers[-1]
        if tile == 0 or max(image.shape[2:]) <= tile:
            return moments(self.encode(image)[deepest])
        count = 0
        total = square = torch.zeros((), dtype=torch.float64, device=image.device)
        for part in (part for row in image.split(tile, 2) for part in row.split(tile, 3)):
            if min(part.shape[2:]) >= self.multiple:
                x = self.encode(part)[deepest].double()
                count += x[0, 0].numel()
                total = total + x.sum((2, 3), keepdim=True)
                square = square + x.square().sum((2, 3), keepdim=True)
        mean = total / count
        deviation = (square / count - mean.square() + 1e-5).clamp(min=1e-5).sqrt()
        return mean.float(), deviation.float()


class Options(TileOptions):
    """What `aigc sample` may set."""

    strength: float = Field(1.0, ge=0, le=1)
    """0 leaves the photograph as the decoder knows it, 1 is the whole style; the paper's alpha."""
    preserve_colors: bool = False
    """Keep the photograph's colours and take only the lightness of what was painted."""
