"""What the families that upscale images share: sampling at any size, PSNR and SSIM, previews."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.media.image import Pixels, from_tensor
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.metrics.image import psnr_rgb, psnr_y, ssim_y
from aigc_cli.metrics.image._pair import Bordered
from aigc_cli.models._base import Batch
from aigc_cli.models._image import ImageModule
from aigc_cli.models._tiles import TileOptions
from aigc_cli.nn.edsr import EDSR, Precision
from aigc_cli.nn.precision import multiplies_bf16
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.border import BORDER
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.sampling.self_ensemble import self_ensemble
from aigc_cli.specs import Spec
from aigc_cli.specs.image import SuperResolutionSpec

PAIRS = ("psnr_y", "psnr_rgb", "ssim_y")
PROBE = 64
"""Side of the part of an image on which the precision is chosen."""


class SuperResolutionOptions(TileOptions):
    """What `aigc sample` may set in every family that upscales images."""

    tile: int = Field(256, ge=0)
    """Largest side, in pixels of the input, upscaled at once; 0 takes the whole image, whatever
    its size.
    """
    overlap: int = Field(16, ge=0)
    """Pixels of the input that neighboring tiles share."""
    self_ensemble: bool = False
    """Average the results of the 8 flips and rotations (the paper's "+"): 8 times slower, about 0.1
    dB better.
    """
    precision: Literal["auto", "fp32"] = "auto"
    """auto multiplies bf16 where the hardware does and, in a part of the first image, no pixel
    changes by half a level of 256; samples.json says what was chosen.
    """


class SuperResolutionModule(ImageModule):
    """Base of these families; `net` maps (B, C, h, w) to (B, C, s h, s w), both in [-1, 1]."""

    accepts = (SuperResolutionSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = dict.fromkeys(PAIRS, "max")
    averaged = ("net",)
    takes = "image"
    same_image = True
    net: EDSR

    def __init__(self, config: Section, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, SuperResolutionSpec)
        self.scale = spec.scale
        self.suffix = f"_x{spec.scale}"
        self.facts: dict[str, str | float] = {"precision": "fp32"}
        """How the last images were made, for their record."""
        self._fastest: tuple[Precision, float] | None = None
        self.compared = [
            kind.Metric(Bordered.Options(border=spec.scale)) for kind in (psnr_y, psnr_rgb, ssim_y)
        ]

    def train(self, mode: bool = True) -> Self:
        """What was fast and exact enough is found anew for other weights."""
        self._fastest = None
        return super().train(mode)

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        made = self.super_resolve(batch["low"], SuperResolutionOptions(precision="fp32"))
        return self._compare(_pixels(made), batch)

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        """`bicubic`: MATLAB's imresize, which the field compares with."""
        larger = [resize_bicubic(low, scale=self.scale) for low in _pixels(batch["low"])]
        return {"bicubic": self._compare(larger, batch)}

    def _compare(self, preds: Sequence[Pixels], batch: Batch) -> dict[str, Tensor]:
        pairs = list(zip(preds, _pixels(batch["high"]), strict=True))
        return {
            metric.name: torch.tensor([metric.compute(p, t) for p, t in pairs])
            for metric in self.compared
        }

    def sample(
        self,
        noise: SampleNoise,
        options: SuperResolutionOptions,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """(C, h, w) -> (n, C, s h, s w): all n are equal, since no noise is used."""
        assert given is not None
        return self.super_resolve(given[None], options).expand(noise.count, -1, -1, -1)

    @torch.no_grad()
    def super_resolve(self, low: Tensor, options: SuperResolutionOptions) -> Tensor:
        """low (B, C, h, w) of any size -> (B, C, s h, s w), tile by tile."""

        def net(x: Tensor) -> Tensor:
            made: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
            return made

        upscale = (lambda x: self_ensemble(net, x)) if options.self_ensemble else net
        with self.net.multiplying(self._precision(low, options)):
            return options.cut(upscale, low, scale=self.scale, border=BORDER)

    def _precision(self, low: Tensor, options: SuperResolutionOptions) -> Precision:
        """What is asked for, or what is fast and exact enough in the middle of the first image;
        fp32 for images finer than 8 bits. `facts` says which.
        """
        wanted = options.precision != "fp32" and multiplies_bf16(low.device.type)
        levels = (low + 1) * 127.5
        if not wanted or bool((levels - levels.round()).abs().max() > 1e-3):
            self.facts = {"precision": "fp32"}
            return "fp32"
        if self._fastest is None:
            top, left = (max(0, side - PROBE) // 2 for side in low.shape[-2:])
            part = low[:1, :, top : top + PROBE, left : left + PROBE]
            self._fastest = self.net.fastest(part.contiguous(memory_format=torch.channels_last))
        precision, difference = self._fastest
        self.facts = {"precision": precision, "levels_from_fp32": round(difference, 3)}
        return precision


def _pixels(images: Tensor) -> list[Pixels]:
    """What would be written to files: 8 bit, (H, W, C) each."""
    return [from_tensor(image) for image in images.float().cpu()]
