"""Context beyond the borders of an image, which a convolutional network misses there.

A network that pads with zeros takes them for gray next to the image and colors its outer pixels.
Continued by its mirror image an image has no edge at its border. Of EDSR's answers for crops of
photographs, the outer 4 pixels have 30.92 dB without a border, 30.37 with one that mirrors at the
last pixel, 31.05 with one that repeats it, and 31.33 with one that mirrors beside it, as `imresize`
does, too; the pixels inside have 31.41 (`python -m benchmarks.border`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BORDER = 8
"""Pixels: 4 are 0.01 dB worse, 16 no better."""


def mirrored(image: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """(B, C, H, W) continued by so many rows (above, below) and columns (left, right): 2 1 | 1 2 3
    | 3 2, to and fro as often as it takes.
    """
    for axis, (before, after) in ((2, rows), (3, columns)):
        length = image.shape[axis]
        position = torch.arange(-before, length + after, device=image.device)
        position = position.remainder(torch.full_like(position, 2 * length))  # as ONNX has it
        image = image.index_select(axis, torch.minimum(position, 2 * length - 1 - position))
    return image


def bordered(fn: Callable[[Tensor], Tensor], image: Tensor, border: int, scale: int = 1) -> Tensor:
    """fn(image) (B, C', scale H, scale W) with `border` pixels of context on all four sides."""
    if border == 0:
        return fn(image)
    H, W = image.shape[-2:]
    made = fn(mirrored(image, (border, border), (border, border)))
    cut = scale * border
    return made[..., cut : cut + scale * H, cut : cut + scale * W]
