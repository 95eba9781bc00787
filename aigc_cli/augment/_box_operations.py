"""Objects in images: moved along with them, cut out, and blended into others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from aigc_cli.augment._image_operations import Way
from aigc_cli.augment.image import planes
from aigc_cli.data.boxes import inside
from aigc_cli.media.boxes import Boxes, Floats
from aigc_cli.media.image import Raster


@dataclass(frozen=True, eq=False)
class Scene:
    """An image and its objects."""

    picture: Raster
    objects: Boxes


def along(objects: Boxes, way: Way, width: int, height: int) -> Boxes:
    """Objects whose image was moved: around where the outline went, or the corners of the box; cut
    at the edge, and without those of which too little is seen.
    """
    if not len(objects):
        return objects
    outlines = tuple(tuple(way(p) for p in one) for one in objects.outlines)
    boxes = np.empty((len(objects), 4))
    for i, (left, top, right, bottom) in enumerate(objects.boxes):
        corners = np.array([[left, top], [right, top], [left, bottom], [right, bottom]])
        own = outlines[i] if outlines else ()
        points = np.concatenate(own) if own else way(corners)
        boxes[i] = [*points.min(0), *points.max(0)]
    cut, kept = inside(boxes, width, height)
    some = Boxes(boxes, objects.names, outlines=outlines).some(kept)
    clipped = tuple(tuple(p.clip(0, (width, height)) for p in one) for one in some.outlines)
    return Boxes(cut, some.names, outlines=clipped)


def most_shared(box: Floats, others: Floats) -> float:
    """The largest part of the smaller of two boxes that is also in the other."""
    if not len(others):
        return 0.0
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return float((shared / np.minimum(areas, np.prod(box[2:] - box[:2]))).max())


def cut_out(scene: Scene, number: int, shape: str) -> tuple[Tensor, Tensor]:
    """An object (3, h, w) in [0, 1] and its mask (h, w)."""
    left, top, right, bottom = scene.objects.boxes[number]
    x0, y0 = int(left), int(top)
    x1, y1 = max(x0 + 1, int(np.ceil(right))), max(y0 + 1, int(np.ceil(bottom)))
    colors = planes(scene.picture.as_bits(8).as_channels(3))[:3, y0:y1, x0:x1]
    outline = scene.objects.outlines[number] if scene.objects.outlines else ()
    h, w = colors.shape[1:]
    if shape == "auto" and outline:
        drawn = Image.new("L", (w, h))
        for polygon in outline:
            ImageDraw.Draw(drawn).polygon([(x - x0, y - y0) for x, y in polygon], fill=255)
        return colors, torch.from_numpy(np.array(drawn)).float() / 255
    return colors, shape_of(shape, h, w)


def shape_of(shape: str, h: int, w: int) -> Tensor:
    """The mask (h, w) of a box, or of the ellipse in it."""
    if shape != "ellipse":
        return torch.ones(h, w)
    y = (torch.arange(h) + 0.5) / h * 2 - 1
    x = (torch.arange(w) + 0.5) / w * 2 - 1
    return (y[:, None].square() + x.square() <= 1).float()


def blended(under: Tensor, over: Tensor, mask: Tensor, blend: float, tone: float) -> Tensor:
    """`over` (3, h, w) on `under` where `mask` (h, w) is 1, with an edge that fades inwards, and
    brought nearer in color to what was there, by the difference of both along the edge of the box.
    """
    h, w = mask.shape
    edge = torch.zeros(h, w, dtype=torch.bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    shift = (under[:, edge].mean(1) - over[:, edge].mean(1)) * tone
    over = (over + shift[:, None, None]).clamp(0, 1)
    if blend:
        # Away from the edge of the mask by as much as a box filter reaches, it is 1.
        ky, kx = (2 * max(1, round(side * blend / 2)) + 1 for side in (h, w))
        padded = F.pad(mask[None, None], (kx, kx, ky, ky))
        inner = -F.max_pool2d(-padded, (ky, kx), 1, (ky // 2, kx // 2))
        soft = F.avg_pool2d(inner, (ky, kx), 1, (ky // 2, kx // 2), count_include_pad=False)
        mask = soft[0, 0, ky : ky + h, kx : kx + w] * (mask > 0)
    return torch.lerp(under, over, mask)
