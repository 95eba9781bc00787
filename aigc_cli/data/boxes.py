"""Images with boxes around objects, for models that find objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from aigc_cli.data._box_files import format_of
from aigc_cli.data._box_parts import BoxImages, of_classes, open_boxes, require_good, some
from aigc_cli.data._cache import Background, Bytes, Pack, cache_folder
from aigc_cli.data._claim import MARKED, Claim, parts
from aigc_cli.data._images import held_apart, in_8_bits, planes, to_range
from aigc_cli.data._paths import find_path
from aigc_cli.data._stream import Key, permutation
from aigc_cli.data._suggest import Suggestions
from aigc_cli.errors import DataError
from aigc_cli.media.boxes import Boxes, coco_image, coco_json, coco_objects
from aigc_cli.media.image import MAX_PIXELS, Raster, write_image
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.specs.boxes import BoxesSpec

GRAY = 128  # of what lies beyond an image; 0 in [-1, 1], but for half a level
VISIBLE = 0.3  # part of a box that must stay in a training image, or the object is none of it
LEAST = 2.0  # pixels of each of its sides


class Config(Section):
    """Where boxes are noted, the size of images, and how training images are varied."""

    modality: ClassVar[str] = "boxes"

    kind: Literal["boxes"] = "boxes"
    """Images with boxes."""
    train: Name
    """COCO JSON, folder of Pascal VOC XML or of YOLO text, or list in ImageSets/Main."""
    val: Name | None = None
    """As `train`, to validate with; without it every tenth image of `train` is held out."""
    width: int = Field(320, ge=32, le=2048)
    """Pixels of the images; each is fitted in as a whole, at the top left."""
    height: int = Field(320, ge=32, le=2048)
    """Pixels of the images, downwards."""
    flip: bool = True
    """Mirror training images from left to right, half of the times."""
    flip_down: bool = False
    """Mirror them upside down, half of the times: for what has no side that is up."""
    zoom: float = Field(0.25, ge=0, lt=1)
    """Part by which training images are enlarged or reduced at most, at a place by chance."""
    light: float = Field(0.2, ge=0, lt=1)
    """Part by which brightness and contrast of training images change at most."""
    on_error: Literal["stop", "skip"] = "stop"
    """Boxes and images that cannot be used: stop and name them, or leave them out."""
    max_pixels: int = Field(MAX_PIXELS, gt=0)
    """Larger images are refused before they are decoded."""
    cache: Name = "auto"
    """Folder for prepared images; auto is ~/.cache/aigc, off keeps them for this run only."""


class Scenes:
    """The images of one part, fitted into `height` x `width`, with boxes in their pixels."""

    def __init__(self, part: BoxImages, spec: BoxesSpec, cache: Path | None) -> None:
        self.part, self.spec = part, spec
        numbers = {name: i for i, name in enumerate(spec.labels)}
        self.classes = [[numbers[name] for name in found.names] for found in part.objects]
        shape = (3, spec.height, spec.width)
        key = ["boxes", *shape, *part.pictures.key]
        self._pack = Pack(cache, key, [shape] * len(part))

    def __len__(self) -> int:
        return len(self.part)

    def pixels(self, index: int) -> Bytes:
        """uint8 (3, H, W)."""
        return self._pack.get(index, lambda: planes(fitted(self.part.read(index), self.spec)))

    def boxes(self, index: int) -> np.ndarray:
        """(N, 4) in pixels of the fitted image."""
        return self.part.objects[index].boxes * scale_of(self.part.size(index), self.spec)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.item(self.pixels(index), self.boxes(index), self.classes[index])

    @staticmethod
    def item(pixels: Bytes, boxes: np.ndarray, classes: Sequence[int]) -> dict[str, Tensor]:
        return {
            "image": to_range(np.array(pixels)),
            "boxes": torch.from_numpy(boxes).float().reshape(-1, 4),
            "classes": torch.tensor(classes, dtype=torch.long),
        }

    @staticmethod
    def collate(items: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """A batch as in specs/boxes.py: as many places for objects as the fullest image needs."""
        most = max(1, *(len(item["classes"]) for item in items))
        boxes = torch.zeros(len(items), most, 4)
        classes = torch.full((len(items), most), -1)
        for b, item in enumerate(items):
            count = len(item["classes"])
            boxes[b, :count], classes[b, :count] = item["boxes"], item["classes"]
        return {
            "image": torch.stack([item["image"] for item in items]),
            "boxes": boxes,
            "classes": classes,
        }


class VariedScenes:
    """Training images: how one is varied follows from the seed in its key."""

    def __init__(self, scenes: Scenes, config: Config) -> None:
        self.scenes, self.config, self.collate = scenes, config, scenes.collate

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        index, seed = key
        pixels, boxes = self.scenes.pixels(index), self.scenes.boxes(index)
        random, config = np.random.default_rng(seed), self.config
        _, H, W = pixels.shape
        if config.zoom:
            pixels, boxes = _zoomed(pixels, boxes, config.zoom, random)
        if config.flip and random.random() < 0.5:
            pixels, boxes = pixels[:, :, ::-1], boxes[:, [2, 1, 0, 3]] * (-1, 1, -1, 1)
            boxes[:, ::2] += W
        if config.flip_down and random.random() < 0.5:
            pixels, boxes = pixels[:, ::-1], boxes[:, [0, 3, 2, 1]] * (1, -1, 1, -1)
            boxes[:, 1::2] += H
        boxes, kept = inside(boxes, W, H)
        item = self.scenes.item(pixels, boxes, [self.scenes.classes[index][i] for i in kept])
        if config.light:
            brightness, contrast = random.uniform(-config.light, config.light, 2)
            image = item["image"]
            mean = image.mean()
            item["image"] = ((image - mean) * (1 + contrast) + mean + brightness).clamp(-1, 1)
        return item


def inside(boxes: np.ndarray, width: float, height: float) -> tuple[np.ndarray, list[int]]:
    """Boxes cut at the edges of an image, and the numbers of those that are seen enough of."""
    cut = np.clip(boxes, 0, (width, height, width, height))
    sides = cut[:, 2:] - cut[:, :2]
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    seen = (np.prod(sides, axis=1) >= VISIBLE * whole) & (sides.min(1, initial=np.inf) >= LEAST)
    kept = np.flatnonzero(seen)
    return cut[kept], kept.tolist()


def _zoomed(
    pixels: Bytes, boxes: np.ndarray, most: float, random: np.random.Generator
) -> tuple[Bytes, np.ndarray]:
    """Enlarged or reduced; the section of it, or its place, by chance."""
    _, H, W = pixels.shape
    scale = float(np.exp(random.uniform(-1, 1) * np.log1p(most)))
    left, top = (random.random(2) * (scale - 1) * (W, H)).tolist()
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    moved = image.transform(
        (W, H), Image.Transform.AFFINE, (1 / scale, 0, left / scale, 0, 1 / scale, top / scale),
        Image.Resampling.BILINEAR, fillcolor=(GRAY,) * 3,
    )  # fmt: skip
    return np.asarray(moved).transpose(2, 0, 1), boxes * scale - (left, top, left, top)


def scale_of(size: tuple[int, int], spec: BoxesSpec) -> float:
    """By how much an image of (width, height) is enlarged to be fitted in."""
    return min(spec.width / size[0], spec.height / size[1])


def fitted(picture: Raster, spec: BoxesSpec) -> Bytes:
    """The whole image at the top left of uint8 (height, width, 3), gray beyond."""
    scale = scale_of((picture.width, picture.height), spec)
    width = min(spec.width, max(1, round(picture.width * scale)))
    height = min(spec.height, max(1, round(picture.height * scale)))
    image = Image.fromarray(in_8_bits(picture, 3))
    canvas = np.full((spec.height, spec.width, 3), GRAY, np.uint8)
    canvas[:height, :width] = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return canvas


class Data:
    """Training and validation images; every note is read, every image decoded when this is built.

    With the `spec` of a checkpoint only what validates is opened, with its sizes and classes.

    Raises:
        DataError: a source is absent; images or boxes cannot be used and `on_error` is stop; a
            class to validate is none of training.
    """

    val_batch_size: int | None = None
    _background: Background | None = None

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: BoxesSpec | None = None,
    ) -> None:
        cache = cache_folder(config.cache)
        self.report = open_parts(config, bases, spec, cache)
        if spec is None:
            spec = _spec_of(self.report["data.train"], config)
        self.spec = spec
        self.val = Scenes(self.report["data.val"], spec, cache)
        if "data.train" in self.report:
            scenes = Scenes(self.report["data.train"], spec, cache)
            self.train = VariedScenes(scenes, config)
            order = permutation(seed, 0, len(scenes)).tolist()
            self._background = Background(scenes.pixels, order)

    def start_background(self) -> None:
        """Prepare the training images in a thread while training runs."""
        if self._background is not None:
            self._background.start()

    def stop_background(self) -> None:
        if self._background is not None:
            self._background.stop()


def open_parts(
    config: Config,
    bases: Sequence[Path],
    spec: BoxesSpec | None = None,
    cache: Path | None = None,
) -> dict[str, BoxImages]:
    """What trains and what validates, by recipe key; with `spec` only what validates. Validation
    objects of classes that training does not have are faults.

    Raises:
        DataError: as `open_boxes`, or one image would have to do both. BadBoxesError: there are
            faults, and they are not to be left out.
    """

    def part(text: str, key: str) -> BoxImages:
        return open_boxes(text, bases=bases, key=key, max_pixels=config.max_pixels, cache=cache)

    val = None if config.val is None else part(config.val, "data.val")
    if val is None or spec is None:
        train = part(config.train, "data.train")
    if val is None:
        if len(train) < 2:
            raise DataError(
                f"data.train: one image of {config.train!r} cannot both train and validate",
                hint="name other images with data.val",
            )
        rest, held = held_apart(range(len(train)))
        val = some(train, held, faults=spec is not None)
        train = some(train, rest, faults=True)
    if spec is not None:
        parts = {"data.val": of_classes(val, spec.labels)}
    else:
        learned = [name for name, count in train.counts.items() if count]
        parts = {"data.train": train, "data.val": of_classes(val, learned)}
    require_good(parts, config.on_error)
    return parts


def _spec_of(train: BoxImages, config: Config) -> BoxesSpec:
    """
    Raises:
        DataError: there is no box to learn from.
    """
    labels = tuple(name for name, count in train.counts.items() if count)
    if not labels:
        raise DataError("data.train: there is no box in any of its images")
    sums = {name: np.zeros(4) for name in labels}
    for number, found in enumerate(train.objects):
        for box, name in zip(found.boxes, found.names, strict=True):
            # as parts of the canvas, of which the image may fill the upper left
            scale = scale_of(train.size(number), BoxesSpec(config.height, config.width, (), ()))
            sums[name] += box * scale / np.tile((config.width, config.height), 2)
    means = [round(float(v), 6) for name in labels for v in sums[name] / train.counts[name]]
    return BoxesSpec(config.height, config.width, labels, tuple(means))


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """A source that notes boxes is meant for them."""
    values = parts(source, bases)
    try:
        form = format_of(find_path(values["train"], bases))
    except DataError:
        return None
    if form is None:
        return None
    return Claim(values, "images with notes of boxes", MARKED, frozenset({"boxes", "color"}))


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """The shape that most images have, 320 pixels long."""
    part = open_boxes(config.train, bases=bases, key="data.train", max_pixels=config.max_pixels)
    shapes = sorted(seen.width / seen.height for seen in part.pictures.seen)
    ratio = shapes[len(shapes) // 2]
    width, height = (320, 320 / ratio) if ratio >= 1 else (320 * ratio, 320)
    sides = [max(32, 32 * round(side / 32)) for side in (width, height)]
    reason = f"Half of the images are at least {ratio:.2f} times as wide as high."
    return {"width": (sides[0], reason), "height": (sides[1], reason)}


def example(folder: Path) -> dict[str, Any]:
    """Six images with a small, a middle and a large square or bar of one color each, in COCO."""
    random = np.random.default_rng(0)
    classes = {"bar": 1, "square": 2}
    images: list[Any] = []
    objects: list[Any] = []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(6):
        pixels = random.integers(90, 110, (48, 64, 3), dtype=np.uint8)
        boxes = []
        for i, (left, side) in enumerate(((1, 28), (34, 14), (52, 8))):
            left, top = left + int(random.integers(4)), int(random.integers(6 + 8 * i))
            width = side // 2 if (number + i) % 2 else side
            boxes.append([left, top, left + width, top + side])
            pixels[top : top + side, left : left + width] = (40, 220, 60 + 90 * (number + i) % 2)
        names = tuple("bar" if (number + i) % 2 else "square" for i in range(3))
        write_image(folder / "images" / f"{number}.png", Raster(pixels))
        images.append(coco_image(number, f"{number}.png", 64, 48))
        found = Boxes(np.array(boxes, float), names)
        objects += coco_objects(found, number, len(objects), classes)
    (folder / "coco.json").write_bytes(coco_json(images, objects, classes))
    return {
        "kind": "boxes", "train": str(folder / "coco.json"), "width": 64, "height": 64,
        "cache": "off",
    }  # fmt: skip
