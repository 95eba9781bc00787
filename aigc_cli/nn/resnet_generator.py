"""The generator of CycleGAN: two downsamplings, residual blocks, two upsamplings.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV
2016, https://arxiv.org/abs/1603.08155, as in Zhu, Park, Isola, Efros, "Unpaired Image-to-Image
Translation using Cycle-Consistent Adversarial Networks", ICCV 2017, appendix 7.2,
https://arxiv.org/abs/1703.10593.

Differs from the authors' code: convolutions before an instance normalisation have no bias, which
the normalisation would subtract again (5,248 of 11,378,179 weights at 9 blocks).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from aigc_cli.nn.init import init_normal
from aigc_cli.nn.instance_norm import InstanceNorm

Upsample = Literal["transpose", "resize"]
MULTIPLE = 4  # sides of pictures are multiples of what the downsamplings divide by


class ResnetBlock(nn.Module):
    """x + norm(conv(relu(norm(conv(x))))), (B, D, H, W) -> same, without dropout."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *normed(reflect_conv(features, features, 3)),
            *normed(reflect_conv(features, features, 3))[:-1],
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class ResnetGenerator(nn.Module):
    """Picture (B, C, H, W) in [-1, 1] -> picture (B, C', H, W) in [-1, 1]; weights N(0, 0.02).

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
    ) -> None:
        super().__init__()
        D = features
        self.layers = nn.Sequential(
            *normed(reflect_conv(channels, D, 7)),
            *normed(nn.Conv2d(D, 2 * D, 3, stride=2, padding=1, bias=False)),  # H/2
            *normed(nn.Conv2d(2 * D, 4 * D, 3, stride=2, padding=1, bias=False)),  # H/4
            *[ResnetBlock(4 * D) for _ in range(blocks)],
            *normed(*upsampling(4 * D, 2 * D, upsample)),  # H/2
            *normed(*upsampling(2 * D, D, upsample)),  # H
        )
        self.tail = nn.Conv2d(D, out_channels, 7, padding=3, padding_mode="reflect")
        init_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        x = self.layers(image)
        with torch.autocast(x.device.type, enabled=False):  # bf16 cannot hold 256 levels
            return torch.tanh(self.tail(x.float()))


def reflect_conv(channels: int, out_channels: int, size: int) -> nn.Conv2d:
    """Keeps H and W; without bias, since a normalisation follows."""
    return nn.Conv2d(
        channels, out_channels, size, padding=size // 2, padding_mode="reflect", bias=False
    )


def normed(*layers: nn.Module) -> list[nn.Module]:
    """The layers, instance normalisation, ReLU."""
    return [*layers, InstanceNorm(), nn.ReLU(inplace=True)]


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
