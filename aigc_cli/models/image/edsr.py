"""EDSR: super-resolution by a deep residual network without batch normalisation.

Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
CVPRW 2017, https://arxiv.org/abs/1707.02921. Baseline: 16 blocks of 64 features (1.37 / 1.55 / 1.52
million weights for x2 / x3 / x4); full: 32 blocks of 256 with residual scale 0.1.

Differs from the paper:
* the mean colour is a buffer subtracted inside the network, not two fixed convolutions;
* in bf16 and fp16 the last convolution still runs in fp32, since 8 bits of mantissa cannot hold a
  result that is rounded to 256 levels;
* gray pictures (one channel) use the luma of the mean colour.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.media.image import Pixels, from_tensor, to_tensor
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.metrics.table import resolve
from aigc_cli.models._base import Batch, GenerativeModule, Terms
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.sampling.self_ensemble import self_ensemble
from aigc_cli.sampling.tiling import tiled
from aigc_cli.specs import Spec, SuperResolutionSpec

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB of the 800 training pictures, in [0, 1]
LUMA = (0.299, 0.587, 0.114)


class Config(Section):
    """The network and its optimizer; the defaults are EDSR-baseline as published."""

    num_blocks: int = Field(16, gt=0, le=128)
    """Residual blocks in the body: 16 for the baseline, 32 for the full network."""
    num_features: int = Field(64, gt=0, le=1024)
    """Channels of every block: 64 for the baseline, 256 for the full network."""
    residual_scale: float = Field(1.0, gt=0, le=1)
    """Factor on each block's branch; 0.1 keeps the full network from diverging (section 3.3)."""
    lr: float = Field(1e-4, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first and second moment."""


class ResidualBlock(nn.Module):
    """x + residual_scale * conv(relu(conv(x))), (B, D, H, W) -> same; no normalisation
    (figure 2c).
    """

    def __init__(self, features: int, residual_scale: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.residual_scale = residual_scale

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.conv2(self.conv1(x).relu_())
        return torch.add(x, branch, alpha=self.residual_scale)


def upsampler(features: int, scale: int) -> nn.Sequential:
    """Sub-pixel convolutions (Shi et al. 2016): one of x2 or x3, two of x2 for x4."""
    layers: list[nn.Module] = []
    for factor in {2: (2,), 3: (3,), 4: (2, 2)}[scale]:
        layers += [
            nn.Conv2d(features, features * factor**2, 3, padding=1),
            nn.PixelShuffle(factor),
        ]
    return nn.Sequential(*layers)


class EDSR(nn.Module):
    """Low-resolution picture (B, C, h, w) in [-1, 1] -> (B, C, s h, s w), unclipped; default torch
    init.
    """

    mean: Tensor

    def __init__(self, config: Config, channels: int, scale: int) -> None:
        super().__init__()
        D = config.num_features
        colour = torch.tensor(DIV2K_MEAN)
        if channels == 1:
            colour = (colour * torch.tensor(LUMA)).sum(0, keepdim=True)
        self.register_buffer("mean", 255 * colour.view(1, -1, 1, 1), persistent=False)
        self.head = nn.Conv2d(channels, D, 3, padding=1)
        self.body = nn.Sequential(
            *[ResidualBlock(D, config.residual_scale) for _ in range(config.num_blocks)],
            nn.Conv2d(D, D, 3, padding=1),
        )
        self.upsample = upsampler(D, scale)
        self.tail = nn.Conv2d(D, channels, 3, padding=1)

    def forward(self, low: Tensor) -> Tensor:
        x = self.head((low + 1) * 127.5 - self.mean)  # the paper works in gray levels, 0 to 255
        x = self.upsample(x + self.body(x))
        with torch.autocast(x.device.type, enabled=False):
            high: Tensor = self.tail(x.float()) + self.mean
        return high / 127.5 - 1


class Model(GenerativeModule):
    """L1 in gray levels, Adam; x3 and x4 start from the x2 network by `init_from` (section 3.2)."""

    accepts = (SuperResolutionSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "psnr_y": "max",
        "psnr_rgb": "max",
        "ssim_y": "max",
    }
    averaged = ("net",)
    makes = "enlargements"
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, SuperResolutionSpec)
        self.scale = spec.scale
        self.net = EDSR(config, spec.channels, spec.scale)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return torch.optim.Adam(self.net.parameters(), c.lr, c.betas, foreach=True)

    def loss(self, batch: Batch) -> Terms:
        l1 = 127.5 * (self.net(batch["low"]) - batch["high"]).abs().mean()
        return {"loss": l1}

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        made = self.sample(len(batch["low"]), Options(), condition=batch)
        preds, target = _pixels(made), _pixels(batch["high"])
        return {
            metric.name: torch.tensor(
                [metric.compute(p, t, self.scale) for p, t in zip(preds, target, strict=True)]
            )
            for metric in resolve(list(self.metrics))
        }

    def preview(self, batch: Batch) -> dict[str, Tensor]:
        bicubic = [resize_bicubic(p, scale=self.scale) for p in _pixels(batch["low"])]
        return {
            "bicubic": torch.stack([to_tensor(p) for p in bicubic]),
            "edsr": self.sample(len(batch["low"]), Options(), condition=batch),
            "original": batch["high"],
        }

    @torch.no_grad()
    def sample(
        self,
        n: int,
        options: Options,
        noise: SampleNoise | None = None,
        condition: Batch | None = None,
    ) -> Tensor:
        """Enlarge condition["low"] (n, C, h, w); any size, tile by tile. Deterministic: uses no
        noise.
        """
        assert condition is not None
        net = self.net
        enlarge = (lambda x: self_ensemble(net, x)) if options.self_ensemble else net
        low = condition["low"]
        if options.tile == 0 or max(low.shape[-2:]) <= options.tile:
            return enlarge(low)
        return tiled(enlarge, low, tile=options.tile, overlap=options.overlap, scale=self.scale)


class Options(Section):
    """What `aigc sample` may set."""

    tile: int = Field(256, ge=0)
    """Largest side, in pixels of the input, enlarged at once; 0 takes the whole picture, whatever
    its size.
    """
    overlap: int = Field(16, ge=0)
    """Pixels of the input that neighbouring tiles share."""
    self_ensemble: bool = False
    """Average the results of the 8 flips and rotations (the paper's "+"): 8 times slower, about 0.1
    dB better.
    """

    @model_validator(mode="after")
    def _tile_beyond_overlap(self) -> Options:
        least = 2 * self.overlap + (self.overlap + 1) // 2 + 1
        if 0 < self.tile < least:
            raise ValueError(f"an overlap of {self.overlap} needs a tile of {least} or more, or 0")
        return self


def _pixels(images: Tensor) -> list[Pixels]:
    """What would be written to files: 8 bit, (H, W, C) each."""
    return [from_tensor(image) for image in images.float().cpu()]
