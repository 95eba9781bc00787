"""Images of one size, with or without classes, for models that make or judge whole images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from aigc_cli.data._cache import Background, Bytes, Pack, cache_folder
from aigc_cli.data._check import check, require_good
from aigc_cli.data._claim import LIKELY, POSSIBLE, STRUCTURED, Claim, look_at, parts
from aigc_cli.data._example import paint
from aigc_cli.data._images import (
    Checked,
    ImageData,
    PictureConfig,
    in_8_bits,
    open_parts,
    planes,
    to_range,
)
from aigc_cli.data._seen import Seen
from aigc_cli.data._sources import beside_folders
from aigc_cli.data._stream import Key, permutation
from aigc_cli.data._suggest import Suggestions, look
from aigc_cli.errors import DataError
from aigc_cli.specs.image import ImageSpec

SMALL = 128  # pixels: so small, images are seldom photographs to be made larger


class Config(PictureConfig):
    """Images, and how they come to one size."""

    kind: Literal["images"] = "images"
    """Images of one size."""
    image_size: int = Field(64, ge=4, le=2048)
    """Side of the square images in pixels."""
    resize: Literal["crop", "stretch", "none"] = "crop"
    """crop: fit the shorter side and keep the middle; stretch: fit both; none: must fit already."""
    flip: bool = False
    """Mirror training images from left to right, half of the times, at random."""
    labels: Literal["auto", "none"] = "auto"
    """auto: classes are the names of the folders, or what an IDX or hf: source says, if any."""


class Images:
    """The images of one part, each brought to its size when first needed, then kept."""

    def __init__(
        self, pictures: Checked, labels: Sequence[int] | None, config: Config, cache: Path | None
    ) -> None:
        self.pictures = pictures
        self.labels = None if labels is None else torch.tensor(labels)
        self.shape = (config.channels, config.image_size, config.image_size)
        self.resize = config.resize
        key = ["images", self.resize, *pictures.key]
        self._pack = Pack(cache, key, [self.shape] * len(pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """Relative name of the file, which is also safe for a file to be written."""
        return self.pictures.name(index)

    def pixels(self, index: int) -> Bytes:
        """uint8 (C, S, S)."""
        return self._pack.get(index, lambda: self._prepare(index))

    def _prepare(self, index: int) -> Bytes:
        C, S, _ = self.shape
        return planes(fitted(in_8_bits(self.pictures.read(index), C), S, self.resize))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """image (C, S, S) in [-1, 1], and label () with labeled data."""
        return {name: batch[0] for name, batch in self.batch([index]).items()}

    def batch(self, indexes: Sequence[int], mirrored: Sequence[bool] = ()) -> dict[str, Tensor]:
        """image (B, C, S, S) in [-1, 1], and label (B,) with labeled data."""
        out = np.empty((len(indexes), *self.shape), np.uint8)
        for b, index in enumerate(indexes):
            pixels = self.pixels(index)
            out[b] = pixels[:, :, ::-1] if mirrored and mirrored[b] else pixels
        batch = {"image": to_range(out)}
        if self.labels is not None:
            batch["label"] = self.labels[list(indexes)]
        return batch


class TrainingImages:
    """Training images: whether one is mirrored follows from the seed in its key."""

    def __init__(self, images: Images, *, flip: bool) -> None:
        self.images, self.flip = images, flip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """One image: image (C, S, S) in [-1, 1], and label () with labeled data."""
        return {name: batch[0] for name, batch in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """The whole batch, which a DataLoader asks for at once."""
        mirrored = [self.flip and seed % 2 == 1 for _, seed in keys]
        return self.images.batch([index for index, _ in keys], mirrored)

    @staticmethod
    def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """For the DataLoader's `collate_fn`: a batch already is one."""
        return batch


class Data(ImageData):
    """Training and validation images, all checked when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, and its sizes and classes are those of the model.

    Raises:
        DataError: a source is absent or empty, images cannot be used and `on_error` is stop, or
            a class to validate is none of training.
        MissingError: a source needs a package that is not installed.
    """

    val_batch_size: int | None = None  # images of one size are validated in batches

    unlabeled: str | None = None
    """What to do about images that have no classes, where a file is the cause."""

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: ImageSpec | None = None,
    ) -> None:
        if spec is not None:
            sizes = {"channels": spec.channels, "image_size": spec.image_size}
            config = config.model_copy(update=sizes)
        cache = cache_folder(config.cache)
        unfit = _exactly(config.image_size) if config.resize == "none" else _never
        self.report = {
            key: check(part.source, part.numbers, unfit=unfit, cache=cache)
            for key, part in open_parts(config, bases, val_only=spec is not None).items()
        }
        require_good(self.report, config.on_error)
        parts = {key: Checked(report) for key, report in self.report.items()}
        if spec is None:
            found = class_names(parts["data.train"]) if config.labels == "auto" else None
            spec = ImageSpec(config.channels, config.image_size, found)
        self.spec = spec
        if spec.labels is None and config.labels == "auto":
            self.unlabeled = why_unlabeled(parts)
        require_classes(parts["data.val"], spec.labels)
        images = {
            key: Images(part, _numbers(part, spec.labels), config, cache)
            for key, part in parts.items()
        }
        self.val = images["data.val"]
        if train := images.get("data.train"):
            self.train = TrainingImages(train, flip=config.flip)
            order = permutation(seed, 0, len(train))  # just ahead of a fresh run
            self._background = Background(train.pixels, order)


def example(folder: Path) -> dict[str, Any]:
    """Four images of each of three classes, in folders."""
    for seed, name in enumerate(("cat", "dog", "owl")):
        paint(folder / "classes" / name, 4, seed=seed)
    return {"kind": "images", "train": str(folder / "classes"), "image_size": 32, "cache": "off"}


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Images of any kind; small ones, and those of classes, are likely to be meant as they are."""
    values = parts(source, bases)
    found = look_at(values["train"], bases)
    if found is None:
        return None
    photographs = found.in_color and found.side > SMALL
    facts = {"classes": found.classes > 0, "color": found.in_color, "photographs": photographs}
    strength = STRUCTURED if found.classes else LIKELY if found.side <= SMALL else POSSIBLE
    return Claim(values, str(found), strength, frozenset(k for k, v in facts.items() if v))


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """The size of the images where it is one and small, for `aigc recipe new`; if not, that of
    half of them, and not above what the config says, or 64.

    Raises: as `look`.
    """
    found = look(config, bases)
    sizes = {(seen.height, seen.width) for seen in found.seen}
    side, typical = found.sides[-1], found.sides[len(found.seen) // 2]
    if sizes == {(side, side)} and side <= 128:
        return found.shared() | {"image_size": (side, f"All images are {side} x {side}.")}
    most = config.image_size if "image_size" in config.model_fields_set else 64
    size = max(4, min(most, typical - typical % 4))
    reason = f"Half of the images are at least {typical} pixels on their shorter side."
    return found.shared() | {"image_size": (size, reason)}


def fitted(pixels: Bytes, size: int, how: Literal["crop", "stretch", "none"]) -> Bytes:
    """(H, W, C) -> (size, size, C) by Pillow's bicubic filter, which is antialiased.

    Parmar, Zhang and Zhu, 2022, https://arxiv.org/abs/2104.11222, on why that matters for FID.
    """
    H, W, C = pixels.shape
    if (size, size) == (H, W):
        return pixels
    if how == "none":
        raise ValueError(f"{W} x {H} pixels do not fit {size} x {size}")
    side = min(H, W)
    left, top = (W - side) / 2, (H - side) / 2
    box = (left, top, left + side, top + side) if how == "crop" else (0, 0, W, H)
    image = Image.fromarray(pixels[:, :, 0] if C == 1 else pixels)
    resized = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.array(resized).reshape(size, size, C)


def class_names(train: Checked) -> tuple[str, ...] | None:
    """The classes of the training images in order, numbers by value; None when there are none."""
    known = train.labels()
    if known is None:
        return None
    return tuple(sorted(set(known), key=lambda name: (not name.isdigit(), name.zfill(20))))


def why_unlabeled(parts: Mapping[str, Checked]) -> str | None:
    """Which images lie beside the folders of others, so that these are no classes."""
    loose = beside_folders([part.name(i) for part in parts.values() for i in range(len(part))])
    if not loose:
        return None
    more = f" and {len(loose) - 1} more" if len(loose) > 1 else ""
    return f"move {sorted(loose)[0]}{more} into a folder: beside folders they are of no class"


def require_classes(val: Checked, names: Sequence[str] | None) -> None:
    """See that each validation image is of a class that training images have.

    Raises:
        DataError: they have no classes, or one of their own.
    """
    if names is None:
        return
    other = val.labels()
    if other is None:
        raise DataError(
            "data.val: its images have no classes, those of data.train have",
            hint="put them in folders named after their classes, or set data.labels=none",
        )
    if unknown := sorted(set(other) - set(names)):
        raise DataError(
            f"data.val: class {unknown[0]!r} has no training images",
            hint="give each class two images or more, since some are held out to validate",
        )


def _numbers(pictures: Checked, names: tuple[str, ...] | None) -> list[int] | None:
    """Class number of each image."""
    if names is None:
        return None
    number = {name: i for i, name in enumerate(names)}
    return [number[label] for label in pictures.labels() or ()]


def _never(seen: Seen) -> None:
    return None


def _exactly(size: int) -> Callable[[Seen], str | None]:
    def unfit(seen: Seen) -> str | None:
        if (seen.height, seen.width) == (size, size):
            return None
        return f"{seen.width} x {seen.height}, not {size} x {size} as data.resize=none needs"

    return unfit
