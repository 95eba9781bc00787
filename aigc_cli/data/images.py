"""Pictures of one size, with or without classes, for models that make or judge whole pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from aigc_cli.data._cache import Background, Bytes, Pack, cache_folder
from aigc_cli.data._check import Seen, check, require_good
from aigc_cli.data._example import paint
from aigc_cli.data._fit import Fit, look
from aigc_cli.data._pictures import (
    Checked,
    PictureConfig,
    in_8_bits,
    open_parts,
    planes,
    to_range,
)
from aigc_cli.data._stream import Key, permutation
from aigc_cli.errors import DataError
from aigc_cli.specs.image import ImageSpec


class Config(PictureConfig):
    """Pictures, and how they come to one size."""

    kind: Literal["images"] = "images"
    """Pictures of one size."""
    image_size: int = Field(64, ge=4, le=2048)
    """Side of the square pictures in pixels."""
    resize: Literal["crop", "stretch", "none"] = "crop"
    """crop: fit the shorter side and keep the middle; stretch: fit both; none: must fit already."""
    flip: bool = False
    """Mirror training pictures from left to right, half of the times, at random."""
    labels: Literal["auto", "none"] = "auto"
    """auto: classes are the names of the folders, or what an IDX or hf: source says, if any."""


class Images:
    """The pictures of one part, each brought to its size when first needed, then kept."""

    def __init__(
        self, pictures: Checked, labels: Sequence[int] | None, config: Config, cache: Path | None
    ) -> None:
        self.pictures = pictures
        self.labels = None if labels is None else torch.tensor(labels)
        self.shape = (config.channels, config.image_size, config.image_size)
        self.resize = config.resize
        key = ["images", self.resize, *pictures.fingerprints]
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
        """image (C, S, S) in [-1, 1], and label () with labelled data."""
        return {name: batch[0] for name, batch in self.batch([index]).items()}

    def batch(self, indexes: Sequence[int], mirrored: Sequence[bool] = ()) -> dict[str, Tensor]:
        """image (B, C, S, S) in [-1, 1], and label (B,) with labelled data."""
        out = np.empty((len(indexes), *self.shape), np.uint8)
        for b, index in enumerate(indexes):
            pixels = self.pixels(index)
            out[b] = pixels[:, :, ::-1] if mirrored and mirrored[b] else pixels
        batch = {"image": to_range(out)}
        if self.labels is not None:
            batch["label"] = self.labels[list(indexes)]
        return batch


class Shuffled:
    """Training pictures: whether one is mirrored follows from the seed in its key."""

    def __init__(self, images: Images, *, flip: bool) -> None:
        self.images, self.flip = images, flip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """One picture: image (C, S, S) in [-1, 1], and label () with labelled data."""
        return {name: batch[0] for name, batch in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """The whole batch, which a DataLoader asks for at once."""
        mirrored = [self.flip and seed % 2 == 1 for _, seed in keys]
        return self.images.batch([index for index, _ in keys], mirrored)

    @staticmethod
    def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """For the DataLoader's `collate_fn`: a batch already is one."""
        return batch


class Data:
    """Training and validation pictures, all checked when this is built.

    Relative paths are tried against `bases` in turn.

    Raises:
        DataError: a source is absent or empty, pictures cannot be used and `on_error` is stop, or
            a class to validate is none of training.
        MissingError: a source needs a package that is not installed.
    """

    val_batch_size: int | None = None  # pictures of one size are validated in batches

    def __init__(self, config: Config, *, seed: int, bases: Sequence[Path] = ()) -> None:
        cache = cache_folder(config.cache)
        train, val = open_parts(config, bases)
        unfit = _exactly(config.image_size) if config.resize == "none" else _never
        self.report = {
            "data.train": check(train.source, train.numbers, unfit=unfit, cache=cache),
            "data.val": check(val.source, val.numbers, unfit=unfit, cache=cache),
        }
        require_good(self.report, config.on_error)
        parts = Checked(self.report["data.train"]), Checked(self.report["data.val"])
        names = class_names(*parts) if config.labels == "auto" else None
        self.spec = ImageSpec(config.channels, config.image_size, names)
        images, self.val = (Images(part, _numbers(part, names), config, cache) for part in parts)
        self.train = Shuffled(images, flip=config.flip)
        order = permutation(seed, 0, len(images)).tolist()  # just ahead of a fresh run
        self._background = Background(images.pixels, order)

    def start_background(self) -> None:
        """Prepare the training pictures in a thread while training runs; optional."""
        self._background.start()

    def stop_background(self) -> None:
        self._background.stop()


def example(folder: Path) -> dict[str, Any]:
    """Four images of each of three classes, in folders."""
    for seed, name in enumerate(("cat", "dog", "owl")):
        paint(folder / "classes" / name, 4, seed=seed)
    return {"kind": "images", "train": str(folder / "classes"), "image_size": 32, "cache": "off"}


def fit(config: Config, *, bases: Sequence[Path] = ()) -> Fit:
    """The size of the pictures where it is one and small, for `aigc recipe new`; 64 or less if not.

    Raises: as `look`.
    """
    found = look(config, bases)
    sizes = {(seen.height, seen.width) for seen in found.seen}
    side, typical = found.sides[-1], found.sides[len(found.seen) // 2]
    if sizes == {(side, side)} and side <= 128:
        return found.shared() | {"image_size": (side, f"All pictures are {side} x {side}.")}
    size = max(4, min(64, typical - typical % 4))
    reason = f"Half of the pictures are at least {typical} pixels on their shorter side."
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


def class_names(train: Checked, val: Checked) -> tuple[str, ...] | None:
    """The classes of the training pictures in order, numbers by value; None when there are none.

    Raises:
        DataError: validation pictures have no classes, or one that training pictures do not have.
    """
    known, other = train.labels(), val.labels()
    if known is None:
        return None
    if other is None:
        raise DataError(
            "data.val: its pictures have no classes, those of data.train have",
            hint="put them in folders named after their classes, or set data.labels=none",
        )
    if unknown := sorted(set(other) - set(known)):
        raise DataError(
            f"data.val: class {unknown[0]!r} has no training pictures",
            hint="give each class two pictures or more, since some are held out to validate",
        )
    return tuple(sorted(set(known), key=lambda name: (not name.isdigit(), name.zfill(20))))


def _numbers(pictures: Checked, names: tuple[str, ...] | None) -> list[int] | None:
    """Class number of each picture."""
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
