"""Running a convolutional network over an image of any size in the memory of one tile."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

GRID = 32
"""Pixels that five halvings make one."""


def tiled(
    fn: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    tile: int,
    overlap: int,
    scale: int,
    multiple: int = 1,
) -> Tensor:
    """`fn` over image (B, C, H, W), tile by tile -> (B, C', scale H, scale W), float32.

    `fn` maps (B, C, h, w) to (B, C', scale h, scale w) for any h, w <= tile. Tiles are as many as
    it takes and of one size, the smallest that covers the image: with 256 and an overlap of 16, 510
    x 340 pixels are cut into six tiles of 197 x 190. Their sides are rounded up to `multiple`, but
    for those that end with the image, and they begin at multiples of 32 or of its part in that, so
    that strides and poolings fall on the same pixels in all of them. At each side that is
    not a border of the image, `overlap` pixels of a tile are thrown away, for there the network
    misses context; beside them tiles are blended linearly over half as many. So the result equals
    `fn(image)` when the receptive field reaches no further than `overlap` from its center, and has
    no visible seams when what lies further away matters little. What depends on the whole image,
    as instance norm or attention do, is not preserved.

    Raises:
        ValueError: tiles so small that nothing is left of them, or `fn` returns another size.
    """
    B, _, H, W = image.shape
    blend = (overlap + 1) // 2
    if tile <= 2 * overlap + blend:
        raise ValueError(f"a tile of {tile} pixels is too small for an overlap of {overlap}")
    out: Tensor | None = None
    across = list(_windows(W, tile, overlap, blend, scale, multiple))
    for top, h, rows in _windows(H, tile, overlap, blend, scale, multiple):
        for left, w, columns in across:
            part = fn(image[:, :, top : top + h, left : left + w]).float()
            weight = (rows[:, None] * columns).to(part.device)
            if part.shape[-2:] != weight.shape:
                found, wanted = tuple(part.shape[-2:]), tuple(weight.shape)
                raise ValueError(f"the network made {found} pixels of a tile, not {wanted}")
            if out is None:
                out = part.new_zeros(B, part.shape[1], scale * H, scale * W)
            y, x = scale * top, scale * left
            out[:, :, y : y + len(rows), x : x + len(columns)] += weight * part
    assert out is not None
    return out


def _windows(
    length: int, tile: int, overlap: int, blend: int, scale: int, multiple: int
) -> list[tuple[int, int, Tensor]]:
    """Start and size of each tile along one axis and its weights (scale * size,), which sum to 1
    over the tiles.
    """
    grid = math.gcd(multiple, GRID)
    shared = _raised(2 * overlap + blend, grid)
    tile = _raised(max(tile, shared + grid), multiple)
    whole = _raised(length, multiple)
    count = max(1, math.ceil((whole - shared) / (tile - shared)))
    fitted = _raised(math.ceil((whole + (count - 1) * shared) / count), multiple)
    starts = [(whole - fitted) // grid * n // max(1, count - 1) * grid for n in range(count)]

    windows = []
    total = torch.zeros(scale * length, dtype=torch.float64)
    for start in starts:
        size = min(fitted, length - start)
        position = (torch.arange(scale * size, dtype=torch.float64) + 0.5) / scale
        window = torch.ones_like(position)
        if start > 0:
            window = torch.minimum(window, _ramp(position - overlap, blend))
        if start + size < length:
            window = torch.minimum(window, _ramp(size - overlap - position, blend))
        total[scale * start : scale * (start + size)] += window
        windows.append((start, size, window))
    return [
        (start, size, (window / total[scale * start :][: scale * size]).float())
        for start, size, window in windows
    ]


def _raised(length: int, multiple: int) -> int:
    return length + -length % multiple


def _ramp(distance: Tensor, blend: int) -> Tensor:
    """0 before the edge of the usable part, rising to 1 over `blend` pixels."""
    return (distance / max(blend, 1e-6)).clamp(0, 1)
