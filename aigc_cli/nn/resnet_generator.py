"""The generator of CycleGAN: two downsamplings, residual blocks, two upsamplings.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV
2016, https://arxiv.org/abs/1603.08155, as in Zhu, Park, Isola, Efros, "Unpaired Image-to-Image
Translation using Cycle-Consistent Adversarial Networks", ICCV 2017, appendix 7.2,
https://arxiv.org/abs/1703.10593.

Differs from the authors' code: convolutions before a normalization have no bias, which an instance
normalization would subtract again (5,248 of 11,378,179 weights at 9 blocks); `norm: group` has
groups of 16 channels (Wu and He 2018, table 3) instead of instance normalization, which takes the
mean and the contrast of every channel out of an image, and so most of its colors.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.init import init_normal
from aigc_cli.nn.norm import GroupNorm, InstanceNorm

Upsample = Literal["transpose", "resize"]
Norm = Literal["instance", "group"]
MULTIPLE = 4  # sides of images are multiples of what the downsamplings divide by


class ResnetBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), (B, D, H, W) -> same, without dropout."""

    def __init__(self, features: int, norm: Norm) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *normed(norm, reflect_conv(features, features, 3)),
            *normed(norm, reflect_conv(features, features, 3))[:-1],
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ResnetGenerator(nn.Module):
    """Image (B, C, H, W) in [-1, 1] -> image (B, C', H, W) in [-1, 1]; weights N(0, 0.02).

    H and W are multiples of 4 and at least 8. `upsample`: "transpose" convolutions as in the paper,
    or "resize" (bilinear, then a convolution), which makes no checkerboards and takes longer.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        features: int = 64,
        blocks: int = 9,
        upsample: Upsample = "transpose",
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        D = features
        self.layers = nn.Sequential(
            *normed(norm, reflect_conv(channels, D, 7)),
            *normed(norm, nn.Conv2d(D, 2 * D, 3, stride=2, padding=1, bias=False)),  # H/2
            *normed(norm, nn.Conv2d(2 * D, 4 * D, 3, stride=2, padding=1, bias=False)),  # H/4
            *[ResnetBlock(4 * D, norm) for _ in range(blocks)],
            *normed(norm, *upsampling(4 * D, 2 * D, upsample)),  # H/2
            *normed(norm, *upsampling(2 * D, D, upsample)),  # H
        )
        self.tail = nn.Conv2d(D, out_channels, 7, padding=3, padding_mode="reflect")
        init_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        x = self.layers(image)
        with torch.autocast(x.device.type, enabled=False):  # bf16 cannot hold 256 levels
            return torch.tanh(self.tail(x.float()))


@torch.no_grad()
def keep_light_light(generator: ResnetGenerator) -> None:
    """Turn the sign of the last weights of a new generator, of as many channels as it makes, where
    it would make dark of light: such a pair of generators finds its way back to the image, too,
    and may stay inverted for good.
    """
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(16, 1, 4, 4, generator=random) * 2 - 1
    seen = F.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(-1, 1)
    made = generator(seen.expand(-1, generator.tail.out_channels, -1, -1)).mean(1, keepdim=True)
    light, made_light = (x - x.mean((2, 3), keepdim=True) for x in (seen, made))
    if (light * made_light).sum() < 0:
        generator.tail.weight.neg_()


def reflect_conv(channels: int, out_channels: int, size: int) -> nn.Conv2d:
    """Keeps H and W; without bias, since a normalization follows."""
    return nn.Conv2d(
        channels, out_channels, size, padding=size // 2, padding_mode="reflect", bias=False
    )


def normed(norm: Norm, *layers: nn.Module) -> list[nn.Module]:
    """The layers, of which the last is a convolution, a normalization, ReLU."""
    if norm == "instance":
        return [*layers, InstanceNorm(), nn.ReLU(inplace=True)]
    width = layers[-1].out_channels
    assert isinstance(width, int)
    return [*layers, GroupNorm(width // math.gcd(width, 16), width), nn.ReLU(inplace=True)]


def upsampling(channels: int, out_channels: int, upsample: Upsample) -> list[nn.Module]:
    """(B, C, H, W) -> (B, C', 2 H, 2 W)."""
    if upsample == "resize":
        enlarge = nn.Upsample(scale_factor=2, mode="bilinear")  # nearest leaves a grid
        return [enlarge, reflect_conv(channels, out_channels, 3)]
    return [
        nn.ConvTranspose2d(
            channels, out_channels, 3, stride=2, padding=1, output_padding=1, bias=False
        )
    ]
