"""Bicubic resizing with the numbers of MATLAB's `imresize`, the yardstick of super-resolution.

Keys, "Cubic convolution interpolation for digital image processing", 1981, with a = -1/2. When an
axis shrinks, the kernel is stretched by 1/scale (antialiasing): Pillow does this too, OpenCV does
not. Pixels beyond the border are mirrored: Pillow leaves them out.

Differs from MATLAB: integer pixels are rounded once, at the end, as in the published bicubic
results, which resized doubles. MATLAB also rounds uint8 between the two axes; on Set5 that moves
PSNR by less than 0.01 dB.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Multiplications up to which OpenBLAS keeps to one thread. More threads save little time here, and
# several processes or threads that resize at once would hold each other up (measured: 5 times).
ONE_THREAD = 1 << 18


def resize_bicubic(
    pixels: NDArray[Any], *, scale: float | None = None, size: tuple[int, int] | None = None
) -> NDArray[Any]:
    """Resize (H, W) or (H, W, C) by `scale`, to lengths rounded up, or to `size` (H, W).

    The axis with the smaller factor goes first. Computed in float64; integer pixels are rounded
    half up and clipped to their range at the end, float pixels are neither. The type is kept.

    Raises:
        ValueError: not exactly one of `scale` and `size`, or no pixels to read or to make.
    """
    if (scale is None) == (size is None):
        raise ValueError("give exactly one of scale and size")
    lengths = pixels.shape[:2]
    if scale is not None:
        # 1e-9 forgives the rounding error of a product such as 0.1 * 30, which is above 3
        size = (math.ceil(scale * lengths[0] - 1e-9), math.ceil(scale * lengths[1] - 1e-9))
    assert size is not None
    if min(*size, *lengths) < 1:
        raise ValueError(f"cannot resize {lengths} pixels to {size}")
    factors = [scale or new / old for new, old in zip(size, lengths, strict=True)]

    values = pixels.astype(np.float64)
    for axis in sorted((0, 1), key=factors.__getitem__):
        values = _resize_axis(values, axis, size[axis], factors[axis])
    if np.issubdtype(pixels.dtype, np.integer):
        values = np.floor(values + 0.5).clip(0, np.iinfo(pixels.dtype).max)
    return np.ascontiguousarray(values, dtype=pixels.dtype)


def modcrop(pixels: NDArray[Any], scale: int) -> NDArray[Any]:
    """Cut (H, W, ...) at the bottom and the right to a multiple of `scale`."""
    H, W = pixels.shape[:2]
    return pixels[: H - H % scale, : W - W % scale]


def _resize_axis(
    values: NDArray[np.float64], axis: int, length: int, scale: float
) -> NDArray[np.float64]:
    lines = np.moveaxis(values, axis, 0)
    columns = lines.reshape(len(lines), -1)
    out = np.empty((length, columns.shape[1]))
    for rows, sources, weights in _bands(len(lines), length, scale):
        step = max(1, ONE_THREAD // weights.size)
        for start in range(0, columns.shape[1], step):
            part = slice(start, start + step)
            np.matmul(weights, columns[sources, part], out=out[rows, part])
    return np.moveaxis(out.reshape(length, *lines.shape[1:]), 0, axis)


@lru_cache(maxsize=64)
def _bands(
    in_length: int, out_length: int, scale: float
) -> list[tuple[slice, slice, NDArray[np.float64]]]:
    """The resizing matrix (out_length, in_length) as dense blocks along its diagonal.

    Each is (output rows, input rows, weights); every row of weights sums to 1.
    """
    shrink = min(scale, 1.0)
    radius = 2 / shrink  # of the kernel, in input pixels
    center = (np.arange(out_length)[:, None] + 0.5) / scale - 0.5
    position = np.floor(center - radius).astype(np.int64) + np.arange(math.ceil(2 * radius) + 2)
    weights = _cubic(shrink * (center - position))
    weights /= weights.sum(axis=1, keepdims=True)
    position %= 2 * in_length  # mirrored: 1 0 | 0 1 ... n-1 | n-1 n-2
    position = np.minimum(position, 2 * in_length - 1 - position)

    bands = []
    for start in range(0, out_length, 8):
        rows = slice(start, min(start + 8, out_length))
        first, last = position[rows].min(), position[rows].max()
        block = np.zeros((rows.stop - start, last - first + 1))
        np.add.at(block, (np.arange(len(block))[:, None], position[rows] - first), weights[rows])
        bands.append((rows, slice(first, last + 1), block))
    return bands


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
