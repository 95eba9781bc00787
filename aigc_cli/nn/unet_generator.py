"""The U-Net of pix2pix: an encoder and a decoder joined by skip connections at every size.

Isola, Zhu, Zhou, Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR
2017, section 6.1.1, https://arxiv.org/abs/1611.07004.

The innermost convolution has no normalization, as in the errata of the paper (arXiv version 3): at
1 x 1 pixel it would leave zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.init import init_normal
from aigc_cli.nn.norm import InstanceNorm

Norm = Literal["instance", "batch"]
Upsample = Literal["transpose", "resize"]
Draw = Callable[..., Tensor]

DEEPEST = 8  # 256 pixels to one, as in the paper
DROPPED = 3  # decoder blocks with dropout, from the innermost


def depth_for(image_size: int) -> int:
    """How often images of a size can be halved, at most 8 times: 7 for 128 pixels."""
    halvings = (image_size & -image_size).bit_length() - 1
    return min(halvings, DEEPEST)


class UNetGenerator(nn.Module):
    """Image (B, C, H, W) in [-1, 1] -> image (B, C', H, W) in [-1, 1]; weights N(0, 0.02).

    H and W are multiples of `multiple` = 2^num_downs, `depth_for(image_size)` for images that
    become one pixel. Width doubles from `features` to 8 times that. `dropout`: 0.5 in the three
    innermost blocks of the decoder. `norm`: "batch" as in the paper, or "instance", which is the
    same for batches of one and does not differ between training and use. `upsample`: "transpose"
    as in the paper, or "resize" (bilinear, then a convolution), without checkerboards.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_downs: int,
        *,
        features: int = 64,
        dropout: bool = True,
        norm: Norm = "instance",
        upsample: Upsample = "transpose",
    ) -> None:
        super().__init__()
        if num_downs < 2:
            raise ValueError(f"a U-Net halves images at least twice, not {num_downs} times")
        self.multiple = 2**num_downs
        widths = [min(features * 2**n, 8 * features) for n in range(num_downs)]
        self.downs = nn.ModuleList([nn.Conv2d(in_channels, widths[0], 4, 2, 1)])
        for n in range(1, num_downs):
            innermost = n == num_downs - 1
            self.downs.append(_down(widths[n - 1], widths[n], None if innermost else norm))
        self.ups = nn.ModuleList()  # from the innermost
        for n in range(num_downs - 1, 0, -1):
            wide = widths[n] if n == num_downs - 1 else 2 * widths[n]
            drops = dropout and len(self.ups) < DROPPED
            self.ups.append(_up(wide, widths[n - 1], norm, upsample, drops))
        self.head = nn.Sequential(nn.ReLU(), *_upsampling(2 * widths[0], out_channels, upsample))
        init_normal(self)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = image, []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        x = self.ups[0](skips.pop())
        for up in self.ups[1:]:
            x = up(torch.cat([x, skips.pop()], 1))
        x = torch.cat([x, skips.pop()], 1)
        with torch.autocast(x.device.type, enabled=False):  # bf16 cannot hold 256 levels
            return torch.tanh(self.head(x.float()))


class Dropout(nn.Module):
    """Dropout whose coins can come from elsewhere, see `dropout_from`; otherwise torch's."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p
        self.draw: Draw | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.draw is None:
            return F.dropout(x, self.p, self.training)
        keep = self.draw(*x.shape).to(x.device) >= self.p
        return x * keep / (1 - self.p)


@contextmanager
def dropout_from(network: nn.Module, draw: Draw) -> Iterator[None]:
    """Inside, every Dropout of `network` is on and keeps what draw(B, C, H, W), uniform in [0, 1),
    gives at least p to: so noise that belongs to the items of a batch serves for dropout too.
    """
    layers = [m for m in network.modules() if isinstance(m, Dropout)]
    for layer in layers:
        layer.draw = draw
    try:
        yield
    finally:
        for layer in layers:
            layer.draw = None


def _down(channels: int, out_channels: int, norm: Norm | None) -> nn.Sequential:
    """(B, C, H, W) -> (B, C', H/2, W/2)."""
    conv = nn.Conv2d(channels, out_channels, 4, 2, 1, bias=norm is None)
    return nn.Sequential(nn.LeakyReLU(0.2), conv, *_norm(norm, out_channels))


def _up(
    channels: int, out_channels: int, norm: Norm, upsample: Upsample, dropout: bool
) -> nn.Sequential:
    """(B, C, H, W) -> (B, C', 2 H, 2 W)."""
    layers = [nn.ReLU(), *_upsampling(channels, out_channels, upsample, bias=False)]
    layers += _norm(norm, out_channels)
    return nn.Sequential(*layers, *([Dropout()] if dropout else []))


def _upsampling(
    channels: int, out_channels: int, upsample: Upsample, bias: bool = True
) -> list[nn.Module]:
    if upsample == "resize":
        conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=bias)
        return [nn.Upsample(scale_factor=2, mode="bilinear"), conv]  # nearest leaves a grid
    return [nn.ConvTranspose2d(channels, out_channels, 4, 2, 1, bias=bias)]


def _norm(norm: Norm | None, channels: int) -> list[nn.Module]:
    if norm is None:
        return []
    return [nn.BatchNorm2d(channels) if norm == "batch" else InstanceNorm()]
