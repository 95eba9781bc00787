"""Running a convolutional network over a picture of any size in the memory of one tile."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def tiled(
    fn: Callable[[Tensor], Tensor], image: Tensor, *, tile: int, overlap: int, scale: int
) -> Tensor:
    """`fn` over image (B, C, H, W), tile by tile -> (B, C', scale H, scale W), float32.

    `fn` maps (B, C, h, w) to (B, C', scale h, scale w) for any h, w <= tile. At each side that is
    not a border of the picture, `overlap` pixels of a tile are thrown away, for there the network
    misses context; beside them tiles are blended linearly over half as many. So the result equals
    `fn(image)` when the receptive field reaches no further than `overlap` from its centre, and has
    no visible seams when what lies further away matters little. What depends on the whole picture,
    as instance norm or attention do, is not preserved.

    Raises:
        ValueError: tiles so small that nothing is left of them, or `fn` returns another size.
    """
    B, _, H, W = image.shape
    blend = (overlap + 1) // 2
    if tile <= 2 * overlap + blend:
        raise ValueError(f"a tile of {tile} pixels is too small for an overlap of {overlap}")
    out: Tensor | None = None
    for top, rows in _windows(H, tile, overlap, blend, scale):
        for left, columns in _windows(W, tile, overlap, blend, scale):
            part = fn(image[:, :, top : top + tile, left : left + tile]).float()
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
    length: int, tile: int, overlap: int, blend: int, scale: int
) -> list[tuple[int, Tensor]]:
    """Start of each tile along one axis and its weights (scale * tile,); they sum to 1."""
    tile = min(tile, length)
    stride = max(1, tile - 2 * overlap - blend)
    count = 1 + math.ceil((length - tile) / stride)
    starts = [min(i * stride, length - tile) for i in range(count)]  # the last is moved inside

    position = (torch.arange(scale * tile, dtype=torch.float64) + 0.5) / scale
    total = torch.zeros(scale * length, dtype=torch.float64)
    windows = []
    for start in starts:
        window = torch.ones_like(position)
        if start > 0:
            window = torch.minimum(window, _ramp(position - overlap, blend))
        if start + tile < length:
            window = torch.minimum(window, _ramp(tile - overlap - position, blend))
        total[scale * start : scale * (start + tile)] += window
        windows.append(window)
    return [
        (start, (window / total[scale * start :][: scale * tile]).float())
        for start, window in zip(starts, windows, strict=True)
    ]


def _ramp(distance: Tensor, blend: int) -> Tensor:
    """0 before the edge of the usable part, rising to 1 over `blend` pixels."""
    return (distance / max(blend, 1e-6)).clamp(0, 1)
