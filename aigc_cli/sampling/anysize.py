"""Applying a network that halves its pictures several times to a picture of any size."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.norm import statistics_from
from aigc_cli.sampling.tiling import tiled


def any_size(
    net: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    multiple: int,
    tile: int,
    overlap: int,
    norms: nn.Module | None = None,
) -> Tensor:
    """net(image) for image (B, C, H, W) of any size -> (B, C', H, W).

    `net` keeps the size of pictures whose sides are multiples of `multiple`. Others are continued
    to the right and below by their mirror image and what is made of that is cut off. Pictures with
    a side above `tile` are cut into tiles, rounded up to the multiple, that share `overlap` pixels
    (sampling/tiling.py); 0 never cuts. `norms` is the network inside `net`: in tiles its instance
    normalisations then use the statistics of the whole picture, reduced to the size of a tile.

    Raises:
        ValueError: tiles too small for the overlap, or `net` returns another size.
    """
    H, W = image.shape[-2:]
    image = _mirrored(_mirrored(image, 2, -H % multiple), 3, -W % multiple)
    if tile == 0 or max(H, W) <= tile:
        made = net(image)
        if made.shape[-2:] != image.shape[-2:]:
            found, wanted = tuple(made.shape[-2:]), tuple(image.shape[-2:])
            raise ValueError(f"the network made {found} pixels of {wanted}")
        return made[..., :H, :W]
    tile += -tile % multiple
    small = _reduced(image, multiple, tile)
    with nullcontext() if norms is None else statistics_from(norms, small, net):
        made = tiled(net, image, tile=tile, overlap=overlap, scale=1)
    return made[..., :H, :W]


def smallest_tile(overlap: int) -> int:
    """Of which something is left without the pixels shared with neighbours."""
    return 2 * overlap + (overlap + 1) // 2 + 1


def _mirrored(image: Tensor, axis: int, extra: int) -> Tensor:
    """Continued by its mirror image, to and fro as often as it takes."""
    length = image.shape[axis]
    period = max(1, 2 * (length - 1))
    position = torch.arange(length + extra, device=image.device) % period
    return image.index_select(axis, torch.minimum(position, period - position))


def _reduced(image: Tensor, multiple: int, tile: int) -> Tensor:
    """Sides of at most `tile`, in the same proportion as far as the multiple allows."""
    scale = tile / max(image.shape[-2:])
    size = [max(multiple, round(side * scale / multiple) * multiple) for side in image.shape[-2:]]
    return F.interpolate(image, size=size, mode="bilinear", antialias=True)
