"""DiffAugment: the same random changes for real and fake images, through which gradients pass.

Zhao, Liu, Lin, Zhu, Han, "Differentiable Augmentation for Data-Efficient GAN Training", 2020,
https://arxiv.org/abs/2006.10738. What is random comes in as numbers in [0, 1), so that the caller
decides where they are from; the discriminator sees nothing but changed images, the generator is
asked for unchanged ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Change = Literal["color", "translation", "cutout"]

RANDOMS = 7
"""Numbers that one image needs, whatever the policy."""
SHIFT, HOLE = 1 / 8, 1 / 2  # of the side, section 4 of the paper


def diff_augment(images: Tensor, policy: Collection[Change], u: Tensor) -> Tensor:
    """Change images (B, C, H, W) in [-1, 1] as `policy` says; the result may leave the range.

    u (B, RANDOMS), uniform in [0, 1). Changes apply in the order color, translation, cutout; 0 is
    what comes in from outside and what holes are filled with.
    """
    if "color" in policy:
        images = _color(images, *u[:, :3].T)
    if "translation" in policy:
        images = _translation(images, *u[:, 3:5].T)
    if "cutout" in policy:
        images = _cutout(images, *u[:, 5:7].T)
    return images


def _color(x: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Brightness +-0.5, saturation times [0, 2), contrast times [0.5, 1.5)."""
    x = x + (_each(brightness) - 0.5)
    gray = x.mean(1, keepdim=True)
    x = gray + (x - gray) * 2 * _each(saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * (_each(contrast) + 0.5)


def _translation(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Whole pixels, up to an eighth of the side in any direction."""
    H, W = x.shape[-2:]
    h, w = _rounded(H * SHIFT), _rounded(W * SHIFT)
    rows = torch.arange(H, device=x.device) + _whole(down, 2 * h + 1)[:, None]  # (B, H)
    columns = torch.arange(W, device=x.device) + _whole(right, 2 * w + 1)[:, None]  # (B, W)
    padded = F.pad(x, (w, w, h, h)).permute(0, 2, 3, 1)
    each = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _cutout(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """A square hole of half the side, whose center lies anywhere in the image."""
    H, W = x.shape[-2:]
    hole = _hole(H, down)[:, None, :, None] & _hole(W, right)[:, None, None, :]
    return x.masked_fill(hole, 0)


def _hole(side: int, where: Tensor) -> Tensor:
    """(B,) in [0, 1) -> (B, side), true inside."""
    length = _rounded(side * HOLE)
    first = _whole(where, side + 1 - length % 2)[:, None] - length // 2
    place = torch.arange(side, device=where.device)
    return (place >= first) & (place < first + length)


def _each(u: Tensor) -> Tensor:
    return u.view(-1, 1, 1, 1)


def _whole(u: Tensor, choices: int) -> Tensor:
    """Uniform in [0, 1) -> one of 0 ... choices - 1."""
    return (u * choices).long().clamp(max=choices - 1)


def _rounded(x: float) -> int:
    return int(x + 0.5)
