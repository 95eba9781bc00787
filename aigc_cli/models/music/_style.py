"""The networks of style transfer, rolls of binary cells, and what of a roll's content is kept."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.media.roll import KEYS

SURE = 2.0  # logit of a cell that the generator has not learned to change
SLOPE = 4.0  # by which the sigmoid is flatter along which the gradient of a binary cell goes
HALVED = 4  # time is halved twice


class Residual(nn.Module):
    """(B, C, h, w) -> the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(channels, channels, 3), nn.GroupNorm(4, channels), nn.ReLU(),
            _conv(channels, channels, 3), nn.GroupNorm(4, channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.layers(x)
        return made


class Generator(nn.Module):
    """Rolls (B, 2, 88, S) and the style that is wanted (B,) -> logits (B, 2, 88, S)."""

    def __init__(self, styles: int, features: int, blocks: int) -> None:
        super().__init__()
        self.styles, D = styles, features
        self.layers = nn.Sequential(
            _conv(2 + styles, D, 5), nn.GroupNorm(2, D), nn.ReLU(),  # (88, S)
            nn.Conv2d(D, 2 * D, 4, 2, 1), nn.GroupNorm(4, 2 * D), nn.ReLU(),  # (44, S / 2)
            nn.Conv2d(2 * D, 4 * D, 4, 2, 1), nn.GroupNorm(4, 4 * D), nn.ReLU(),  # (22, S / 4)
            *(Residual(4 * D) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * D, 2 * D, 4, 2, 1), nn.GroupNorm(4, 2 * D), nn.ReLU(),
            nn.ConvTranspose2d(2 * D, D, 4, 2, 1), nn.GroupNorm(2, D), nn.ReLU(),
        )  # fmt: skip
        self.head = _conv(D + 2, 2, 5)
        nn.init.normal_(self.head.weight, std=1e-3)

    def forward(self, roll: Tensor, style: Tensor) -> Tensor:
        S = roll.shape[3]
        x = F.pad(roll, (0, -S % HALVED))
        told = F.one_hot(style, self.styles).to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])
        change = self.head(torch.cat([self.layers(torch.cat([x, told], 1)), x], 1))
        logits: Tensor = (2 * x - 1) * SURE + change
        return logits[..., :S]


class Discriminator(nn.Module):
    """Rolls (B, 2, 88, S) and a style (B,) -> logits of patches (B, h, w): are they real ones? And
    logits (B, styles): which style is it?
    """

    def __init__(self, styles: int, features: int) -> None:
        super().__init__()
        D = features
        self.layers = nn.Sequential(
            nn.Conv2d(3, D, 4, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(D, 2 * D, 4, 2, 1), nn.GroupNorm(4, 2 * D), nn.LeakyReLU(0.2),
            nn.Conv2d(2 * D, 4 * D, 3, (2, 2), 1), nn.GroupNorm(4, 4 * D), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.real = _conv(4 * D, styles, 3)
        self.style = nn.Linear(8 * D, styles)

    def forward(self, roll: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        height = torch.linspace(-1, 1, roll.shape[2], device=roll.device)[:, None]
        x = self.layers(torch.cat([roll, roll[:, 1:] * height], 1))  # (B, 4 D, h, w)
        real = self.real(x)[torch.arange(len(style), device=style.device), style]
        return real, self.style(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


def _conv(channels: int, out: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2)


def binary(logits: Tensor) -> Tensor:
    """Cells of 0 and 1, with the gradient of a sigmoid so flat that also sure cells have one."""
    p = (logits / SLOPE).sigmoid()
    return (logits > 0).float() + p - p.detach()


def nats(logits: Tensor, roll: Tensor) -> Tensor:
    """Of a step, over both rows of 88 cells: the mean over rolls and steps."""
    found = F.binary_cross_entropy_with_logits(logits, roll, reduction="none")
    return found.sum((1, 2)).mean()


def content(made: Tensor, roll: Tensor) -> dict[str, Tensor]:
    """How much of rolls (B, 2, 88, S) is kept, (B,), 1 for all: `chroma`, the mean cosine of the
    pitch classes that are held in each quarter of a roll's steps of 4; `onsets`, F1 of the steps
    and keys that are struck.
    """
    return {"chroma": _cosine(_chroma(made), _chroma(roll)), "onsets": _f1(made[:, 0], roll[:, 0])}


def _chroma(roll: Tensor) -> Tensor:
    """(B, 12, S / 4): steps in which pitch classes are held, in stretches of 4 steps."""
    held = F.pad(roll[:, 1], (0, 0, 0, -KEYS % 12)).unflatten(1, (-1, 12)).sum(1)
    return F.avg_pool1d(held, 4, ceil_mode=True)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the stretches (B, 12, T) in which either sounds; 1 where neither ever does."""
    either = (a.sum(1) > 0) | (b.sum(1) > 0)
    found = F.cosine_similarity(a, b, dim=1) * either
    count = either.sum(1)
    return torch.where(count > 0, found.sum(1) / count.clamp(min=1), 1.0)


def _f1(a: Tensor, b: Tensor) -> Tensor:
    both, total = (a * b).sum((1, 2)), (a + b).sum((1, 2))
    return torch.where(total > 0, 2 * both / total.clamp(min=1), 1.0)
