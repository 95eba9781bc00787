"""Objects in an image: boxes with classes, drawn over it and written as COCO JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aigc_cli.media.image import Raster

Floats = NDArray[np.float64]
Outline = tuple[Floats, ...]
"""Polygons (P, 2) of x and y that together are the mask of an object; none where it has no mask."""

COLORS = (
    (230, 25, 75), (0, 130, 200), (60, 180, 75), (245, 130, 48), (145, 30, 180), (0, 128, 128),
    (240, 50, 230), (128, 128, 0), (170, 110, 40), (0, 0, 128),
)  # fmt: skip


def _no_boxes() -> Floats:
    return np.zeros((0, 4))


@dataclass(frozen=True, eq=False)
class Boxes:
    """N objects of an image: boxes (N, 4) of left, top, right and bottom in pixels from its top
    left corner, the class of each, and where a model found them, how sure it is, falling.
    """

    boxes: Floats = field(default_factory=_no_boxes)
    names: tuple[str, ...] = ()
    scores: Floats | None = None
    outlines: tuple[Outline, ...] = ()
    """Of each object; empty where none has one."""

    def __len__(self) -> int:
        return len(self.names)

    def some(self, numbers: Sequence[int]) -> Boxes:
        """Only these objects."""
        return Boxes(
            self.boxes[list(numbers)],
            tuple(self.names[i] for i in numbers),
            None if self.scores is None else self.scores[list(numbers)],
            tuple(self.outlines[i] for i in numbers) if self.outlines else (),
        )


def coco_image(number: int, name: str, width: int, height: int) -> dict[str, Any]:
    """An entry of `images` in COCO JSON."""
    return {"id": number, "file_name": name, "width": width, "height": height}


def coco_objects(found: Boxes, image: int, first: int, classes: Mapping[str, int]) -> list[Any]:
    """Entries of `annotations`, numbered from `first`; `classes` has the number of each."""
    entries = []
    for i, (box, name) in enumerate(zip(found.boxes, found.names, strict=True)):
        left, top, right, bottom = (round(float(edge), 2) for edge in box)
        sides = [round(right - left, 2), round(bottom - top, 2)]
        entry: dict[str, Any] = {
            "id": first + i, "image_id": image, "category_id": classes[name],
            "bbox": [left, top, *sides], "area": round(sides[0] * sides[1], 2), "iscrowd": 0,
        }  # fmt: skip
        if found.scores is not None:
            entry["score"] = round(float(found.scores[i]), 4)
        if found.outlines and found.outlines[i]:
            entry["segmentation"] = [
                [round(float(v), 2) for v in polygon.flatten()] for polygon in found.outlines[i]
            ]
        entries.append(entry)
    return entries


def coco_json(images: Sequence[Any], objects: Sequence[Any], classes: Mapping[str, int]) -> bytes:
    """A COCO file (Lin et al., 2014, https://cocodataset.org/#format-data)."""
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    whole = {"images": [*images], "annotations": [*objects], "categories": categories}
    return json.dumps(whole, ensure_ascii=False).encode()


def draw(picture: Raster, found: Boxes, classes: Sequence[str]) -> Raster:
    """The image in color with a box and a name for each object, a color for each class."""
    pixels = picture.as_bits(8).as_channels(3).pixels
    sheet = Image.fromarray(np.ascontiguousarray(pixels))
    pen, side = ImageDraw.Draw(sheet), max(picture.width, picture.height)
    thick, font = max(1, side // 320), ImageFont.load_default(max(9, side // 50))
    numbers = {name: i for i, name in enumerate(classes)}
    for i in reversed(range(len(found))):  # the surest on top
        name = found.names[i]
        color = COLORS[numbers.get(name, 0) % len(COLORS)]
        left, top, right, bottom = (float(edge) for edge in found.boxes[i])
        right, bottom = max(left, right - 1), max(top, bottom - 1)  # edges, not pixels
        pen.rectangle((left, top, right, bottom), outline=color, width=thick)
        text = name if found.scores is None else f"{name} {found.scores[i]:.2f}"
        low, up, high, down = pen.textbbox((left, max(0.0, top)), text, font=font)
        pen.rectangle((low, up, high + 2, down + 1), fill=color)
        pen.text((left + 1, max(0.0, top)), text, fill="white", font=font)
    return Raster(np.array(sheet))
