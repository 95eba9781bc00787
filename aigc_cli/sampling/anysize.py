"""Applying a network that halves its images several times to an image of any size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.norm import statistics_from
from aigc_cli.sampling.border import mirrored
from aigc_cli.sampling.tiling import tiled

MOST = 64
"""Pixels that a border of context may cost along an axis."""


def any_size(
    net: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    multiple: int,
    tile: int,
    overlap: int,
    border: int = 0,
    norms: nn.Module | None = None,
) -> Tensor:
    """net(image) for image (B, C, H, W) of any size -> (B, C', H, W).

    `net` keeps the size of images whose sides are multiples of `multiple`. Images are continued
    by their mirror image, on each side by `border` pixels or the few more that make a multiple, and
    what is made of that is cut off; a multiple above MOST leaves only the context that makes it.
    Images with a side above `tile` are then cut into tiles of at most that size, rounded up to
    the multiple, that share `overlap` pixels (sampling/tiling.py); 0 never cuts. `norms` is the
    network inside `net`: in tiles its instance normalizations use the statistics of the whole
    image, reduced to the size of a tile.

    Raises:
        ValueError: tiles too small for the overlap, or `net` returns another size.
    """
    H, W = image.shape[-2:]
    rows, columns = (_margins(side, border, multiple) for side in (H, W))
    image = mirrored(image, rows, columns)
    if tile == 0 or max(H, W) <= tile:
        made = net(image)
        if made.shape[-2:] != image.shape[-2:]:
            found, wanted = tuple(made.shape[-2:]), tuple(image.shape[-2:])
            raise ValueError(f"the network made {found} pixels of {wanted}")
    else:
        tile += -tile % multiple
        small = _reduced(image, multiple, tile)
        with nullcontext() if norms is None else statistics_from(norms, small, net):
            made = tiled(net, image, tile=tile, overlap=overlap, scale=1, multiple=multiple)
    return made[..., rows[0] : rows[0] + H, columns[0] : columns[0] + W]


def smallest_tile(overlap: int) -> int:
    """Of which something is left without the pixels shared with neighbors."""
    return 2 * overlap + (overlap + 1) // 2 + 1


def _margins(length: int, border: int, multiple: int) -> tuple[int, int]:
    """Pixels before and behind so that all together are a multiple; `border` each at least."""
    whole = length + (2 * border if multiple <= MOST else 0)
    whole += -whole % multiple
    before = (whole - length) // 2
    return before, whole - length - before


def _reduced(image: Tensor, multiple: int, tile: int) -> Tensor:
    """Sides of at most `tile`, in the same proportion as far as the multiple allows."""
    scale = tile / max(image.shape[-2:])
    size = [max(multiple, round(side * scale / multiple) * multiple) for side in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bilinear", antialias=True)
