"""Transparency: images are blended with a background once, before a model sees them, and its answer
is unblended once, in floats and premultiplied: Porter and Duff, "Compositing Digital Images",
SIGGRAPH 1984. What is hidden behind alpha 0 never counts.

Colors are float32 (H, W, C) in [0, 1], opacity is (H, W, 1).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aigc_cli.media.image import Pixels, Raster
from aigc_cli.media.resize import resize_bicubic

Floats = NDArray[np.float32]
WHITE = np.ones((1, 1, 1), np.float32)


def unit(samples: Pixels) -> Floats:
    """uint8 or uint16 -> [0, 1], alpha (H, W) -> (H, W, 1)."""
    values = samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)
    return values if values.ndim == 3 else values[..., None]


def levels(values: NDArray[Any], dtype: type[np.uint8] | type[np.uint16]) -> Pixels:
    """[0, 1] -> uint8 or uint16; clipped, rounded half up."""
    top = np.iinfo(dtype).max
    return np.floor(values * top + 0.5).clip(0, top).astype(dtype)


def blend(colors: Floats, opacity: Floats, background: Floats) -> Floats:
    """What is seen of `colors` over an opaque `background`."""
    return colors * opacity + background * (1 - opacity)


def unblend(seen: Floats, opacity: Floats, background: Floats) -> Floats:
    """The colors that are `seen` over the background, in [0, 1]; the background's where nothing is.

    Colors outside the range cannot be had with this opacity and are clipped.
    """
    colors = (seen - background * (1 - opacity)) / np.maximum(opacity, np.float32(1e-6))
    return np.where(opacity > 0, colors.clip(0, 1), background).astype(np.float32)


def over_white(picture: Raster) -> Floats:
    """The image as training sees it: transparent parts over white."""
    colors = unit(picture.pixels)
    return colors if picture.alpha is None else blend(colors, unit(picture.alpha), WHITE)


def fitting(picture: Raster, format: str) -> tuple[Raster, str | None]:
    """The image as a file of `format` ("jpg", "webp", ...) can hold it, and what it loses."""
    lost = []
    if format in ("jpg", "jpeg") and picture.alpha is not None:
        lost.append("transparency, which lies over white now")
        pixels = levels(over_white(picture), picture.pixels.dtype.type)
        picture = replace(picture, pixels=pixels, alpha=None)
    if format in ("jpg", "jpeg", "webp") and picture.bits == 16:
        lost.append("8 of 16 bits")
        picture = picture.as_bits(8)
    return picture, " and ".join(lost) or None


def surroundings(colors: Floats, opacity: Floats) -> Floats:
    """A background without edges: at each pixel the mean of what can be seen around it, from as
    near as possible; white where there is nothing at all.

    Over it a shape has no outline that a resize could blur, or a network sharpen, into the colors
    of the shape. The "pull-push" of Gortler et al., "The Lumigraph", SIGGRAPH 1996, section 3.4.1.
    """
    return _around(colors * opacity, opacity)


def _around(premultiplied: Floats, opacity: Floats) -> Floats:
    H, W = opacity.shape[:2]
    odd = [(0, H % 2), (0, W % 2), (0, 0)]
    half_seen, half_opacity = (_halved(np.pad(x, odd)) for x in (premultiplied, opacity))
    if max(half_opacity.shape[:2]) == 1:
        mean = half_seen / np.maximum(half_opacity, np.float32(1e-12))
        return np.broadcast_to(mean if half_opacity.max() > 0 else WHITE, premultiplied.shape)
    coarse = half_seen + (1 - half_opacity) * _around(half_seen, half_opacity)
    return resize_bicubic(coarse, size=(H, W)).clip(0, 1)


def _halved(values: Floats) -> Floats:
    """Mean of 2 x 2 pixels."""
    H, W, C = values.shape
    return values.reshape(H // 2, 2, W // 2, 2, C).mean((1, 3), dtype=np.float32)
