"""Feed-forward style transfer: one network, one style, one pass for an image of any size.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV
2016, https://arxiv.org/abs/1603.08155, with instance normalization (Ulyanov et al. 2016). Domain A
are photographs, domain B the image or images of one style.

Differs from the paper:
* the first and last convolution are 7 pixels wide, not 9 (nn/resnet_generator.py), and upscaling is
  bilinear and a convolution, which cannot make checkerboards;
* `norm: group` normalizes groups of 16 channels instead;
* distances are relative (nn/style.py), so the weights are 1 and 5 where the paper's common code has
  1e5 and 1e10, and any network of features serves;
* the style is whatever B holds, Gram matrices averaged over the batch, not one fixed image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.models._tiles import TileOptions
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.resnet_generator import Norm, ResnetGenerator
from aigc_cli.nn.style import (
    content_layer,
    gram,
    gram_distance,
    relative,
    style_layers,
    total_variation,
    with_colors_of,
)
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import UnpairedSpec


class Config(Section):
    """The network, its judges and its optimizer."""

    TINY: ClassVar[Mapping[str, Any]] = {
        "num_features": 4,
        "num_blocks": 1,
        "features": "random:cnn",
    }

    num_features: int = Field(32, ge=4, le=256)
    """Channels of the first convolution."""
    num_blocks: int = Field(5, ge=1, le=32)
    """Residual blocks in the middle."""
    norm: Norm = "instance"
    """group leaves no stains where a large image is smooth, and takes some more steps."""
    features: Name = "efficientnet_lite0"
    """Judge of images: efficientnet_lite0, vgg16, vgg19, random:vgg19, a classifier's run or a .pth
    file of VGG.
    """
    content_layer: Name | None = None
    """Layer whose activations should stay those of the photograph; null: layer3_2 of EfficientNet,
    relu4_2 of the others, of which the paper takes relu2_2.
    """
    style_layers: tuple[Name, ...] = ()
    """Layers whose Gram matrices should become those of the style; without, as style_optim. The
    paper's are relu1_2, relu2_2, relu3_3 and relu4_3 of vgg16.
    """
    content_weight: float = Field(1.0, ge=0)
    """Weight of the content distance."""
    style_weight: float = Field(5.0, ge=0)
    """Weight of the style distance."""
    tv_weight: float = Field(0.01, ge=0)
    """Weight of the total variation, which quiets single pixels."""
    lr: float = Field(1e-3, gt=0, le=1)
    """Adam's learning rate."""


class Model(ImageModule):
    """Relative content and Gram distances, Adam."""

    accepts = (UnpairedSpec,)
    takes = "image"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "loss": "min",
        "content": "min",
        "style": "min",
    }
    averaged = ("net",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, UnpairedSpec)
        C = spec.channels
        self.net = ResnetGenerator(
            C,
            C,
            features=config.num_features,
            blocks=config.num_blocks,
            upsample="resize",
            norm=config.norm,
        )

    @property
    def content_layer(self) -> str:
        return self.config.content_layer or content_layer(self.features)

    @property
    def style_layers(self) -> Sequence[str]:
        return self.config.style_layers or style_layers(self.features)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return fused_adam(self.net.parameters(), self.config.lr)

    def expand(self, batch: Batch) -> Batch:
        """Adds the style by layer (B, C, C), the same for every photograph: the mean Gram matrices
        of all parts of the painting in the step, so it does not depend on how these are spread over
        devices and accumulated parts.
        """
        found = {name: self.all_gather(each).mean(0) for name, each in self._style(batch).items()}
        B = len(batch["a"])
        return {**batch, **{f"style {k}": g.expand(B, -1, -1) for k, g in found.items()}}

    def loss(self, batch: Batch) -> Terms:
        style = {name: batch[f"style {name}"] for name in self.style_layers}
        terms = self._judge(self.net(batch["a"]), batch, style)
        return {name: value.mean() for name, value in terms.items()}

    def _style(self, batch: Batch) -> dict[str, Tensor]:
        """Gram matrices (B, C, C) by layer of the parts of the painting in a batch."""
        with torch.no_grad():
            found = self.features(batch["b"], self.style_layers)
            return {name: gram(x.float()) for name, x in found.items()}

    def _judge(self, made: Tensor, batch: Batch, style: dict[str, Tensor]) -> Terms:
        """Distances of `made` (B, C, H, W) from the photographs and from the style, (B,) each."""
        c, shown = self.config, self.content_layer
        layers = list(dict.fromkeys((shown, *self.style_layers)))
        with torch.no_grad():
            content = self.features(batch["a"], [shown])[shown]
        found = {name: x.float() for name, x in self.features(made, layers).items()}
        terms = {
            "content": relative(found[shown], content.float()),
            "style": gram_distance(found, style),
            "tv": total_variation(made.float()),
        }
        loss = c.content_weight * terms["content"] + c.style_weight * terms["style"]
        return {"loss": loss + c.tv_weight * terms["tv"], **terms}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        terms = self._judge(self.net(batch["a"]), batch, self._style(batch))
        return {name: terms[name] for name in self.metrics}

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """The photographs as they are."""
        terms = self._judge(batch["a"], batch, self._style(batch))
        return {"identity": {name: terms[name] for name in self.metrics}}

    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """The same answer for each row of noise: the network uses none."""
        assert given is not None
        made = options.apply(self.net, given[None], multiple=8, norms=self.net)
        if options.preserve_colors and given.shape[0] == 3:
            made = with_colors_of(made, given[None])
        return made.expand(noise.count, -1, -1, -1)


class Options(TileOptions):
    """What `aigc sample` may set."""

    preserve_colors: bool = False
    """Keep the photograph's colors and take only the lightness of what was painted."""
