"""Images with boxes: varied with their boxes, other objects pasted in; written as PNG and COCO.

Pasting objects of other images is Ghiasi et al., 2021, https://arxiv.org/abs/2012.07177, and
Dwibedi et al., 2017, https://arxiv.org/abs/1708.01642, who found that blended edges matter. Here
the edge is soft, and the object takes on the tone of its new place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.augment import _augmentation
from aigc_cli.augment import _image_operations as operations
from aigc_cli.augment import image as images
from aigc_cli.augment._augmentation import Draw, Operation, Varied, Written
from aigc_cli.augment._box_operations import (
    Scene,
    along,
    blended,
    cut_out,
    most_shared,
    shape_of,
)
from aigc_cli.augment._folders import folder_of, write_file
from aigc_cli.data._box_parts import BoxImages, open_boxes, require_good
from aigc_cli.data._cache import cache_folder
from aigc_cli.data.boxes import Config
from aigc_cli.data.boxes import open_parts as open_recipe_parts
from aigc_cli.errors import DataError
from aigc_cli.media.boxes import Boxes, coco_image, coco_json, coco_objects
from aigc_cli.media.files import write_bytes
from aigc_cli.media.image import Raster, from_tensor, png_bytes, read_image, write_image
from aigc_cli.modalities._modality import Task
from aigc_cli.recipe.load import Recipe, section_from_texts
from aigc_cli.recipe.sections import Section

TRIES = 20  # places and objects that are tried for each that is pasted
CROWDED = 0.3  # part of the smaller box that two may share
NOTES = "coco.json"


class Options(operations.Options):
    """How much images are varied, and what is pasted; turned boxes would not fit tightly."""

    rotation: float = Field(0.0, ge=0, le=180)
    """Degrees by which an image is turned at most; boxes grow around what is turned."""
    shear: float = Field(0.0, ge=0, le=60)
    """Degrees by which it is slanted at most."""
    flip: bool = True
    """Mirror from left to right, half of the times."""
    mix: float = Field(0.0, ge=0, le=0)
    """Not for boxes."""
    paste: int = Field(0, ge=0, le=100)
    """Objects that are pasted into each new image at most; each class is as likely."""
    shape: Literal["auto", "box", "ellipse"] = "auto"
    """What is cut out: the outline where one is noted, else the box, or the ellipse in it."""
    blend: float = Field(0.15, ge=0, le=0.5)
    """Part of the sides of an object over which its edge fades."""
    tone: float = Field(0.7, ge=0, le=1)
    """How much of the difference in color to its new place is taken off a pasted object."""
    crops: int = Field(0, ge=0, le=512)
    """Side of squares of the real training objects, written to objects/CLASS for a generator to
    learn; 0 writes none.
    """


class Scenes(_augmentation.Part):
    """Numbered images with boxes."""

    def __init__(self, part: BoxImages) -> None:
        self.part, self.text = part, part.source
        self.left_out = Counter(fault.kind for fault in part.faults)

    def __len__(self) -> int:
        return len(self.part)

    def name(self, number: int) -> str:
        return self.part.name(number)

    def labels(self) -> None:
        return None

    def read(self, number: int) -> Scene:
        return Scene(self.part.read(number), self.part.objects[number])

    def digest(self, thing: Scene) -> str:
        return images.digest(thing.picture)


class Reading(Section):
    """How a source that is no recipe is read."""

    on_error: Literal["stop", "skip"] = "stop"
    """Boxes and images that cannot be used: stop and name them, or leave them out."""


class Augmentation(_augmentation.Augmentation):
    """Images with boxes."""

    Options = Options
    yardstick = "yardstick_yolo"
    made_of = "image"

    def open(self, source: str, key: str, data: Sequence[str]) -> Scenes:
        asked = section_from_texts(Reading, data, "data")
        part = open_boxes(source, key=key, cache=cache_folder("auto"))
        require_good({key: part}, asked.on_error)
        return Scenes(part)

    def open_recipe(self, recipe: Recipe) -> Mapping[str, Scenes]:
        if not isinstance(recipe.data, Config):
            raise DataError(f"recipe '{recipe.name}': has no data of kind boxes")
        parts = open_recipe_parts(recipe.data, recipe.bases)
        return {key.removeprefix("data."): Scenes(part) for key, part in parts.items()}

    def vary(
        self, thing: Scene, part: Any, number: int, peers: Sequence[int], draw: Draw
    ) -> Varied:
        done: list[Operation] = []
        image, way = operations.moved(
            images.planes(thing.picture), self.options, draw, done, beyond="zeros"
        )
        objects = along(thing.objects, way, thing.picture.width, thing.picture.height)
        sources: list[int] = []
        if self.options.paste:
            image, objects = self._pasted(image, objects, part, peers, draw, done, sources)
        image = operations.shaded(image, None, self.options, draw, done)
        return Varied(Scene(images.raster_of(image, thing.picture), objects), done, sources)

    def _pasted(
        self,
        image: Tensor,
        objects: Boxes,
        part: Any,
        peers: Sequence[int],
        draw: Draw,
        done: list[Operation],
        sources: list[int],
    ) -> tuple[Tensor, Boxes]:
        """With objects of other images; their numbers are added to `sources`."""
        for _ in range(1 + draw.below(self.options.paste)):
            found = any_object(part, peers, draw)
            if found is None:
                continue
            number, place = found
            scene = part.read(number)
            cut, mask = cut_out(scene, place, self.options.shape)
            name = scene.objects.names[place]
            placed = self.placed(image, objects, cut, mask, name, draw)
            if placed is None:
                continue
            image, objects, where = placed
            sources.append(number)
            done.append({"name": "paste", "class": name, "box": where, "from": part.name(number)})
        return image, objects

    def placed(
        self, image: Tensor, objects: Boxes, cut: Tensor, mask: Tensor, name: str, draw: Draw
    ) -> tuple[Tensor, Boxes, list[int]] | None:
        """With `cut` (3, h, w) of a class at a place where little is, and its box; None where there
        is none. `mask` (h, w) is 1 on the object.
        """
        _, H, W = image.shape
        scale = 1 + draw.uniform(-self.options.scale, self.options.scale)
        h, w = (max(2, round(side * scale)) for side in cut.shape[1:])
        if h >= H or w >= W:
            return None
        both = torch.cat([cut, mask[None]])[None]
        both = F.interpolate(both, (h, w), mode="bilinear", antialias=True)[0]
        if self.options.flip and draw.happens(0.5):
            both = both.flip(2)
        for _ in range(TRIES):
            left, top = draw.below(W - w + 1), draw.below(H - h + 1)
            box = np.array([left, top, left + w, top + h], dtype=np.float64)
            if most_shared(box, objects.boxes) <= CROWDED:
                break
        else:
            return None
        image = image.clone()
        under = image[:3, top : top + h, left : left + w]
        image[:3, top : top + h, left : left + w] = blended(
            under, both[:3], both[3], self.options.blend, self.options.tone
        )
        outlines = (*objects.outlines, ()) if objects.outlines else ()
        joined = Boxes(np.vstack([objects.boxes, box]), (*objects.names, name), outlines=outlines)
        return image, joined, box.astype(int).tolist()

    def made_classes(self, part: Any) -> Sequence[str]:
        return part_of(part).classes

    def composed(
        self, thing: Scene, part: Any, draw: Draw, made: Callable[[str], Tensor]
    ) -> tuple[Scene, list[Operation]]:
        """With objects that a model draws: `made` gives one of a class, (C, S, S) in [-1, 1]."""
        done: list[Operation] = []
        image, objects = images.planes(thing.picture), thing.objects
        for _ in range(max(1, self.options.paste)):
            names = part_of(part).classes
            name = names[draw.below(len(names))]
            sizes = box_sizes(part_of(part), name)
            width, height = sizes[draw.below(len(sizes))]
            colors = made(name).add(1).div(2).clamp(0, 1).expand(3, -1, -1)
            cut = F.interpolate(
                colors[None], (max(2, round(height)), max(2, round(width))), mode="bilinear",
                antialias=True,
            )[0]  # fmt: skip
            mask = shape_of(self.options.shape, cut.shape[1], cut.shape[2])
            placed = self.placed(image, objects, cut, mask, name, draw)
            if placed is not None:
                image, objects, where = placed
                done.append({"name": "paste", "class": name, "box": where, "drawn": True})
        return Scene(images.raster_of(image, thing.picture), objects), done

    def write(self, out: Path, split: str, stem: str, label: str | None, thing: Any) -> Written:
        objects: Boxes = thing.objects
        noted = {
            "size": [thing.picture.width, thing.picture.height],
            "classes": list(objects.names),
            "boxes": [[round(float(edge), 2) for edge in box] for box in objects.boxes],
        }
        if any(objects.outlines):
            noted["outlines"] = [
                [np.round(polygon, 2).tolist() for polygon in one] for one in objects.outlines
            ]
        data = png_bytes(thing.picture)
        return write_file(out, f"{split}/images/{stem}.png", data, {"objects": noted})

    def finish(self, out: Path, lines: Iterable[Mapping[str, Any]]) -> None:
        """A COCO file for each part, and objects cut out where that is asked for."""
        lines = list(lines)
        for split in ("train", "val"):
            own = [line for line in lines if line["split"] == split]
            write_bytes(out / split / NOTES, _coco(own, f"{split}/images/"))
        if self.options.crops:
            self._write_crops(out, [line for line in lines if line["made"] == "copied"])

    def _write_crops(self, out: Path, lines: Sequence[Mapping[str, Any]]) -> None:
        side = self.options.crops
        for line in lines:
            if line["split"] != "train":
                continue
            scene = self.read_back(out, line)
            for number, name in enumerate(scene.objects.names):
                cut, _ = cut_out(scene, number, "box")
                square = F.interpolate(cut[None], (side, side), mode="bilinear", antialias=True)[0]
                path = out / "objects" / folder_of(name) / f"{Path(line['path']).stem}-{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_image(path, Raster(from_tensor(square * 2 - 1)))

    def given(self, thing: Scene, label: str, task: Task) -> Tensor:
        raise DataError("models that answer are not for images with boxes")

    def thing_of_made(self, made: Any) -> Scene:
        raise DataError("models make objects of such a set, and no whole images")

    def read_back(self, out: Path, line: Mapping[str, Any]) -> Scene:
        return Scene(read_image(out / line["path"]), _boxes_of(line["objects"]))

    def features(self, thing: Scene) -> Tensor:
        return images.on_a_grid(thing.picture)

    def part_for(self, out: Path, name: str, lines: Iterable[Mapping[str, Any]]) -> str:
        write_bytes(out / f"{name}.json", _coco(list(lines), ""))
        return str(out / f"{name}.json")

    def trains_on(self, out: Path) -> Mapping[str, str]:
        return {"train": str(out / "train" / NOTES), "val": str(out / "val" / NOTES)}


def _coco(lines: Sequence[Mapping[str, Any]], folder: str) -> bytes:
    """Of these lines; file names begin behind `folder`."""
    names = sorted({name for line in lines for name in line["objects"]["classes"]})
    classes = {name: number for number, name in enumerate(names, 1)}
    pictures: list[Any] = []
    objects: list[Any] = []
    for number, line in enumerate(lines, 1):
        width, height = line["objects"]["size"]
        pictures.append(coco_image(number, line["path"].removeprefix(folder), width, height))
        objects += coco_objects(_boxes_of(line["objects"]), number, len(objects) + 1, classes)
    return coco_json(pictures, objects, classes)


def _boxes_of(noted: Mapping[str, Any]) -> Boxes:
    outlines = tuple(
        tuple(np.asarray(polygon, dtype=np.float64) for polygon in one)
        for one in noted.get("outlines", ())
    )
    boxes = np.asarray(noted["boxes"], dtype=np.float64).reshape(-1, 4)
    return Boxes(boxes, tuple(noted["classes"]), outlines=outlines)


def any_object(part: Any, peers: Sequence[int], draw: Draw) -> tuple[int, int] | None:
    """Number of an image and of an object in it, of a class by chance; None where none is found."""
    found = part_of(part)
    name = found.classes[draw.below(len(found.classes))]
    numbers = getattr(part, "numbers", None)
    for _ in range(10 * TRIES):
        number = peers[draw.below(len(peers))]
        names = found.objects[number if numbers is None else numbers[number]].names
        if name in names:
            places = [i for i, other in enumerate(names) if other == name]
            return number, places[draw.below(len(places))]
    return None


def part_of(part: Any) -> BoxImages:
    """The images below a part, which may be some of them."""
    while not isinstance(part, BoxImages):
        part = part.part
    return part


def box_sizes(part: BoxImages, name: str) -> list[tuple[float, float]]:
    """(width, height) of every box of a class."""
    return [
        (float(box[2] - box[0]), float(box[3] - box[1]))
        for found in part.objects
        for box, other in zip(found.boxes, found.names, strict=True)
        if other == name
    ]
