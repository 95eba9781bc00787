"""What every kind of data made of images shares: settings, the two parts, prepared pixels."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data._cache import Background, Bytes
from aigc_cli.data._check import Report
from aigc_cli.data._seen import Seens
from aigc_cli.data._sources import Source, open_source
from aigc_cli.errors import DataError, RunError
from aigc_cli.media.image import MAX_PIXELS, Raster
from aigc_cli.recipe.sections import Name, Section

T = TypeVar("T")

HELD_OUT = 10  # one image in so many validates when `val` is not given


Sources = Name | Annotated[tuple[Name, ...], Field(min_length=1)]
"""One source, or a list of several."""


class SourceConfig(Section):
    """Settings of every kind of data that is made of images."""

    modality: ClassVar[str] = "image"
    kind: str
    """Name of the kind of data."""
    train: Sources
    """Images to train on: folder, zip, list.txt, one image, hf:NAME[:SPLIT], builtin:photos."""
    val: Sources | None = None
    """Images to validate with; without it every tenth of `train`, by name, is held out."""
    on_error: Literal["stop", "skip"] = "stop"
    """Images that cannot be used: stop and name them, or leave them out."""
    max_pixels: int = Field(MAX_PIXELS, gt=0)
    """Larger images are refused before they are decoded."""
    cache: Name = "auto"
    """Folder for prepared images; auto is ~/.cache/aigc, off keeps them for this run only."""


class PictureConfig(SourceConfig):
    """Settings where all images have the same number of channels."""

    channels: Literal[1, 3] = 3
    """3 for RGB, 1 for gray."""


@dataclass(frozen=True)
class ImagePart:
    """The images of a source that train, or that validate."""

    source: Source
    numbers: Sequence[int]


class ImageData:
    """Base of every kind of data that is made of images, which may be prepared ahead."""

    _background: Background | None = None

    def start_background(self) -> None:
        """Prepare the training images in a thread while training runs; optional."""
        if self._background is not None:
            self._background.start()

    def stop_background(self) -> None:
        if self._background is not None:
            self._background.stop()


def open_parts(
    config: SourceConfig, bases: Sequence[Path], *, val_only: bool = False
) -> dict[str, ImagePart]:
    """What trains and what validates, by recipe key.

    Raises:
        DataError: a source is absent or empty, or a single image would have to do both.
    """
    limit = config.max_pixels
    return split(config.train, config.val, bases=bases, max_pixels=limit, val_only=val_only)


def split(
    train: Sources,
    val: Sources | None,
    *,
    bases: Sequence[Path],
    max_pixels: int,
    suffix: Literal["", "_b"] = "",
    val_only: bool = False,
) -> dict[str, ImagePart]:
    """As `open_parts`, for what the keys `data.train` and `data.val`, with `suffix`, name."""
    train_key, val_key = f"data.train{suffix}", f"data.val{suffix}"
    found: dict[str, ImagePart] = {}
    if val is not None:
        other = open_source(val, bases=bases, max_pixels=max_pixels, key=val_key)
        found[val_key] = ImagePart(other, range(len(other)))
        if val_only:
            return found
    trains = open_source(train, bases=bases, max_pixels=max_pixels, key=train_key)
    numbers = range(len(trains))
    if val is not None:
        return {train_key: ImagePart(trains, numbers), **found}
    if len(trains) == 1:
        raise DataError(
            f"{train_key}: the one image of {trains.text!r} cannot both train and validate",
            hint=f"name other images with {val_key}",
        )
    every = np.arange(len(trains), dtype=np.int64)  # lists of a million numbers take 40 MB
    validating = {val_key: ImagePart(trains, array("q", every[::HELD_OUT].tobytes()))}
    if val_only:
        return validating
    rest = every[every % HELD_OUT != 0]
    return {train_key: ImagePart(trains, array("q", rest.tobytes())), **validating}


def held_apart(items: Sequence[T]) -> tuple[list[T], list[T]]:
    """What trains, and every tenth item, which validates."""
    return [item for i, item in enumerate(items) if i % HELD_OUT], list(items[::HELD_OUT])


class PictureChangedError(RunError):
    """An image is not what it was when it was checked."""

    code = "run.picture_changed"

    def __init__(self, message: str) -> None:
        # A DataLoader raises the error of a worker anew with the whole traceback as its message,
        # which ends in the name of this class and our sentence.
        super().__init__(
            message.rpartition(f"{type(self).__name__}: ")[2].strip(),
            hint="put it back and continue with --resume",
        )


class Checked:
    """The usable images of a check, numbered without gaps; they must not change during a run."""

    def __init__(self, report: Report) -> None:
        self._source, self.seen = report.source, Seens.of(report.seen).rows
        self._numbers = array("q", report.seen)
        self._sealed = report.source.seal()
        self._fingerprints = (
            None if self._sealed else [report.fingerprints[number] for number in self._numbers]
        )

    @property
    def key(self) -> list[object]:
        """All that the pixels depend on: changes when the bytes of an image do."""
        if self._fingerprints is not None:
            return [*self._fingerprints]
        return [self._sealed, blake2b(self._numbers.tobytes()).hexdigest()]

    def __len__(self) -> int:
        return len(self._numbers)

    def name(self, index: int) -> str:
        return self._source.name(self._numbers[index])

    def labels(self) -> list[str] | None:
        """Class of each image, None when the source knows no classes."""
        labels = self._source.labels()
        return None if labels is None else [labels[number] for number in self._numbers]

    def read(self, index: int) -> Raster:
        """The image that was checked.

        Raises:
            PictureChangedError: its file was removed, replaced or damaged since the check.
        """
        number = self._numbers[index]
        try:
            picture = self._source.read(number)
        except DataError as error:
            raise PictureChangedError(f"image changed during the run: {error.message}") from error
        if self._fingerprints and self._source.fingerprint(number) != self._fingerprints[index]:
            raise PictureChangedError(f"image changed during the run: {self.name(index)}")
        return picture


def in_8_bits(picture: Raster, channels: int) -> Bytes:
    """Image -> uint8 (H, W, channels).

    16 bits are rounded to 8, which is what training works on; transparency lies over white.
    """
    picture = picture.as_bits(8).as_channels(channels)
    if picture.alpha is None:
        return picture.pixels
    alpha = picture.alpha[:, :, None].astype(np.uint16)
    over = picture.pixels * alpha + 255 * (255 - alpha)  # below 2^16
    return ((over + 127) // 255).astype(np.uint8)


def planes(pixels: Bytes) -> Bytes:
    """(H, W, C) -> (C, H, W), contiguous: patches of it are copied row by row, 4 times faster."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_range(pixels: Bytes) -> Tensor:
    """uint8 0..255 -> float32 [-1, 1]."""
    return torch.from_numpy(pixels).float().div_(127.5).sub_(1)
