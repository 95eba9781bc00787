"""The classical operations on images, each with the amounts it drew, for the record.

Rotation, scale, shear and crop are one affine map, so that pixels are interpolated once; beyond
the edge the image is mirrored. Light, color and cut-out are torchvision's. Mixing is mixup (Zhang
and others, 2018, https://arxiv.org/abs/1710.09412) of two items of one class, so that the label
stays; cut-out is DeVries and Taylor, 2017, https://arxiv.org/abs/1708.04552.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from aigc_cli.augment._augmentation import Draw, Operation
from aigc_cli.recipe.sections import Section

Floats = NDArray[np.float64]


class Options(Section):
    """How much images are varied; 0 leaves an operation out."""

    rotation: float = Field(10.0, ge=0, le=180)
    """Degrees by which an image is turned at most, to either side."""
    scale: float = Field(0.1, ge=0, lt=1)
    """Part by which its content is enlarged or reduced at most."""
    shear: float = Field(5.0, ge=0, le=60)
    """Degrees by which it is slanted at most."""
    crop: float = Field(0.1, ge=0, lt=1)
    """Part of a side by which the section of it moves at most; what is missing is mirrored."""
    flip: bool = False
    """Mirror from left to right, half of the times."""
    light: float = Field(0.15, ge=0, lt=1)
    """Part by which brightness and contrast change at most."""
    color: float = Field(0.1, ge=0, lt=1)
    """Part by which saturation changes at most, and a fifth of it the hue; not of gray images."""
    noise: float = Field(0.02, ge=0, le=1)
    """Largest standard deviation of Gaussian noise; the range of an image is 1."""
    cutout: float = Field(0.0, ge=0, lt=1)
    """Side of the gray square that covers a part of it, as a part of its shorter side."""
    mix: float = Field(0.0, ge=0, le=0.5)
    """Largest weight of another image of its class that is laid over it."""


def vary(
    image: Tensor, other: Tensor | None, options: Options, draw: Draw
) -> tuple[Tensor, list[Operation]]:
    """image (C, H, W) in [0, 1] -> the same shape and range, and what was done.

    C = 1 or 3, or 2 or 4 with transparency, which moves along and keeps its values. `other` has the
    shape of `image`.
    """
    done: list[Operation] = []
    image, _ = moved(image, options, draw, done)
    return shaded(image, other, options, draw, done), done


def shaded(
    image: Tensor, other: Tensor | None, options: Options, draw: Draw, done: list[Operation]
) -> Tensor:
    """As `vary`, but for what moves the image; adds to `done`."""
    opaque = len(image) in (1, 3)
    colors = image if opaque else image[:-1]
    colors = _lit(colors, options, draw, done)
    if other is not None and options.mix:
        weight = draw.uniform(0, options.mix)
        colors = torch.lerp(colors, other[: len(colors)], weight)
        done.append({"name": "mix", "weight": round(weight, 4)})
    if options.noise:
        deviation = draw.uniform(0, options.noise)
        colors = colors + deviation * torch.randn(colors.shape, generator=draw.generator)
        done.append({"name": "noise", "deviation": round(deviation, 4)})
    if options.cutout:
        H, W = colors.shape[1:]
        side = max(1, round(options.cutout * min(H, W)))
        top, left = draw.below(H - side + 1), draw.below(W - side + 1)
        colors = tv.erase(colors, top, left, side, side, torch.tensor(0.5))
        done.append({"name": "cutout", "top": top, "left": left, "side": side})
    colors = colors.clamp(0, 1)
    return colors if opaque else torch.cat([colors, image[-1:]])


Way = Callable[[Floats], Floats]
"""Where points (N, 2) of x and y in pixels go."""


def moved(
    image: Tensor,
    options: Options,
    draw: Draw,
    done: list[Operation],
    beyond: Literal["reflection", "zeros"] = "reflection",
) -> tuple[Tensor, Way]:
    """One affine map about the middle, bilinear; `beyond` the edge the image is mirrored or of the
    middle gray. Also where its points went; adds to `done`.
    """
    _, H, W = image.shape
    flipped = options.flip and draw.happens(0.5)
    if flipped:
        image = tv.horizontal_flip(image)
        done.append({"name": "flip"})

    def mirrored(points: Floats) -> Floats:
        return points * (-1, 1) + (W, 0) if flipped else points

    if not (options.rotation or options.scale or options.shear or options.crop):
        return image, mirrored
    degrees = draw.uniform(-options.rotation, options.rotation)
    scale = math.exp(draw.uniform(-1, 1) * math.log1p(options.scale))
    slant = draw.uniform(-options.shear, options.shear)
    right, down = (draw.uniform(-options.crop, options.crop) for _ in "xy")
    done.append({
        "name": "affine", "degrees": round(degrees, 3), "scale": round(scale, 4),
        "shear": round(slant, 3), "right": round(right, 4), "down": round(down, 4),
    })  # fmt: skip

    # From where each pixel comes: in pixels, so that a turned image is not stretched.
    angle, slope = math.radians(degrees), math.tan(math.radians(slant))
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    theta = torch.tensor([[
        [cos, (slope * cos - sin) * H / W, 2 * right],
        [sin * W / H, slope * sin + cos, 2 * down],
    ]])  # fmt: skip
    grid = F.affine_grid(theta, [1, *image.shape], align_corners=False)
    gray = 0.5 if beyond == "zeros" else 0.0
    moved = F.grid_sample(image[None] - gray, grid, padding_mode=beyond, align_corners=False)[0]

    def way(points: Floats) -> Floats:
        """The inverse of `theta`, which goes from new places to old ones, both in -1 to 1."""
        turn, shift = theta[0, :, :2].double().numpy(), theta[0, :, 2].double().numpy()
        old = mirrored(points) * 2 / (W, H) - 1
        new: Floats = (np.linalg.solve(turn, (old - shift).T).T + 1) * (W, H) / 2
        return new

    return moved + gray, way


def _lit(colors: Tensor, options: Options, draw: Draw, done: list[Operation]) -> Tensor:
    """Brightness and contrast, and where there is color saturation and hue."""
    if options.light:
        brightness, contrast = (1 + draw.uniform(-options.light, options.light) for _ in "bc")
        colors = tv.adjust_contrast(tv.adjust_brightness(colors, brightness), contrast)
        amounts = {"brightness": round(brightness, 4), "contrast": round(contrast, 4)}
        done.append({"name": "light", **amounts})
    if options.color and len(colors) == 3:
        saturation = 1 + draw.uniform(-options.color, options.color)
        hue = draw.uniform(-options.color, options.color) / 5
        colors = with_hue(tv.adjust_saturation(colors, saturation), hue)
        done.append({"name": "color", "saturation": round(saturation, 4), "hue": round(hue, 4)})
    return colors


def with_hue(colors: Tensor, turns: float) -> Tensor:
    """colors (3, H, W) in [0, 1] with the hue moved on its circle by `turns`, in HSV.

    As torchvision's `adjust_hue` in a third of its time, which was a third of that of an image:
    value and chroma stay, so each channel follows from these and the hue at once.
    """
    red, green, blue = colors
    high, low = colors.amax(0), colors.amin(0)  # (H, W)
    chroma = high - low
    scale = chroma.clamp(min=1e-9).reciprocal()
    hue = torch.where(
        high == red,
        (green - blue) * scale,
        torch.where(high == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    )  # in sixths of the circle
    k = (hue + 6 * turns + torch.tensor([5.0, 3.0, 1.0])[:, None, None]) % 6  # (3, H, W)
    return high - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
