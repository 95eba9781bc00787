"""The network of EDSR: a deep residual network without batch normalization.

Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
CVPRW 2017, https://arxiv.org/abs/1707.02921.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

DIV2K_MEAN = (0.4488, 0.4371, 0.4040)  # RGB of the 800 training images, in [0, 1]
LUMA = (0.299, 0.587, 0.114)

Precision = Literal["bf16", "bf16 body", "fp32"]
"""Which convolutions multiply bf16: body and upsampler, the body only, or none. What runs from
block to block is fp32 in any case, so that rounding does not add up.
"""
HALF_A_LEVEL = 0.5


class ResidualBlock(nn.Module):
    """x + residual_scale * conv(relu(conv(x))), (B, D, H, W) -> same; no normalization
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
    """Low-resolution image (B, C, h, w) in [-1, 1] -> (B, C, s h, s w), unclipped; default torch
    init.
    """

    mean: Tensor

    def __init__(
        self,
        channels: int,
        scale: int,
        *,
        num_blocks: int,
        num_features: int,
        residual_scale: float,
    ) -> None:
        super().__init__()
        D = num_features
        color = torch.tensor(DIV2K_MEAN)
        if channels == 1:
            color = (color * torch.tensor(LUMA)).sum(0, keepdim=True)
        self.register_buffer("mean", 255 * color.view(1, -1, 1, 1), persistent=False)
        self.head = nn.Conv2d(channels, D, 3, padding=1)
        self.body = nn.Sequential(
            *[ResidualBlock(D, residual_scale) for _ in range(num_blocks)],
            nn.Conv2d(D, D, 3, padding=1),
        )
        self.upsample = upsampler(D, scale)
        self.tail = nn.Conv2d(D, channels, 3, padding=1)
        self.precision: Precision = "fp32"

    def forward(self, low: Tensor) -> Tensor:
        x = self.head((low + 1) * 127.5 - self.mean)  # the paper works in gray levels, 0 to 255
        with self._bf16(self.precision != "fp32"):
            x = x + self.body(x)  # (B, D, h, w)
        with self._bf16(self.precision == "bf16"):
            x = self.upsample(x)  # (B, D, s h, s w)
        with torch.autocast(x.device.type, enabled=False):
            high: Tensor = self.tail(x.float()) + self.mean
        return high / 127.5 - 1

    def _bf16(self, on: bool) -> AbstractContextManager[object]:
        """Where off, what surrounds the network decides, as in training."""
        return torch.autocast(self.mean.device.type, torch.bfloat16) if on else nullcontext()

    @contextmanager
    def multiplying(self, precision: Precision) -> Iterator[None]:
        """Inside, the network runs in this precision."""
        before, self.precision = self.precision, precision
        try:
            yield
        finally:
            self.precision = before

    @torch.no_grad()
    def fastest(self, low: Tensor) -> tuple[Precision, float]:
        """The fastest precision whose answer for `low` differs by less than half a gray level from
        that of fp32 at every pixel, and by how much at most.
        """
        truth = self(low)
        candidates: tuple[Precision, ...] = ("bf16", "bf16 body")
        for precision in candidates:
            with self.multiplying(precision):
                difference = 127.5 * float((self(low) - truth).abs().max())
            if difference < HALF_A_LEVEL:
                return precision, difference
        return "fp32", 0.0
