"""What `image_pairs` and `unpaired_images` share: two domains, and windows cut from images."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Protocol, Self, TypeVar

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from aigc_cli.data._cache import Bytes, Pack
from aigc_cli.data._images import SourceConfig, Sources, planes
from aigc_cli.data._seen import Seen
from aigc_cli.data._sources import subfolders
from aigc_cli.data._suggest import Suggestions

TRAIN_FOLDERS = (("trainA", "trainB"), ("A", "B"), ("source", "target"))
VAL_FOLDERS = (("testA", "testB"), ("valA", "valB"))

C = TypeVar("C", bound="DomainConfig")
Side = Annotated[int, Field(ge=4, le=4096)]
LoadSize = Side | tuple[Side, Side] | None


class DomainConfig(SourceConfig):
    """Two domains, A and B, and how their images come to one size."""

    train_b: Sources | None = None
    """Images of domain B; not needed where `train` holds folders trainA and trainB."""
    val_b: Sources | None = None
    """Images of domain B to validate with; see `val`."""
    image_size: int = Field(256, ge=4, le=2048)
    """Side of the square images in pixels."""
    load_size: LoadSize = None
    """Shorter side before training cuts `image_size` at random; [least, most]: itself at random."""
    resize: Literal["crop", "stretch", "none"] = "crop"
    """crop: keep the shape and cut; stretch: make square; none: cut from images as they are."""
    flip: bool = False
    """Mirror training images from left to right, half of the times, at random."""

    @property
    def load_sizes(self) -> tuple[int, int]:
        """Least and most; both `image_size` when nothing is said."""
        return least_and_most(self.load_size, self.image_size)

    @model_validator(mode="after")
    def _window_fits(self) -> Self:
        self.require_window("load_size", self.load_size)
        return self

    def require_window(self, key: str, size: LoadSize) -> None:
        """See that `image_size` can be cut from what `key` says.

        Raises:
            ValueError: it cannot.
        """
        least, most = least_and_most(size, self.image_size)
        if size is not None and self.resize == "none":
            raise ValueError(f"{key} has no meaning with resize=none, which upscales nothing")
        if least > most:
            raise ValueError(f"{key} is [least, most], not [{least}, {most}]")
        if least < self.image_size:
            raise ValueError(f"{key} ({least}) must be at least image_size ({self.image_size})")


def least_and_most(size: LoadSize, image_size: int) -> tuple[int, int]:
    """Both ends of a `load_size`; `image_size` when nothing is said."""
    size = size or image_size
    return (size, size) if isinstance(size, int) else size


class Named(NamedTuple):
    """The sources of both domains; `b` is None where nothing names the second."""

    a: Sources
    b: Sources | None


def name_domains(config: DomainConfig, bases: Sequence[Path]) -> tuple[Named, Named | None]:
    """What trains and what validates; None when that is to be held out.

    Where `train` is one folder or zip that holds a couple of TRAIN_FOLDERS and no `train_b` is
    given, those are the domains, and a couple of VAL_FOLDERS beside them validates.
    """
    train, val = Named(config.train, config.train_b), Named(config.val or (), config.val_b)
    if train.b is None and (found := _couple(config.train, TRAIN_FOLDERS, bases)):
        train = found
        if config.val is None and config.val_b is None:
            return train, _couple(config.train, VAL_FOLDERS, bases)
    if config.val and config.val_b is None:
        val = _couple(config.val, VAL_FOLDERS + TRAIN_FOLDERS, bases) or val
    return train, val if val.a or val.b else None


def _couple(
    text: Sources, couples: Sequence[tuple[str, str]], bases: Sequence[Path]
) -> Named | None:
    folders = subfolders(text, bases) if isinstance(text, str) else []
    for a, b in couples:
        if a in folders and b in folders:
            return Named(f"{text}/{a}", f"{text}/{b}")
    return None


class Pictures(Protocol):
    """Decoded images of known sizes, all with the same number of channels."""

    channels: int
    sizes: list[tuple[int, int]]
    """(H, W) of each."""

    def __len__(self) -> int: ...

    def key(self) -> list[object]:
        """All that the pixels depend on."""

    def read(self, index: int) -> Bytes:
        """uint8 (H, W, channels)."""


class Window(NamedTuple):
    """A square to be cut out and brought to one size."""

    y: int
    x: int
    side: int
    mirrored: bool = False


class Scaled:
    """Images resized once, when first needed; windows are then cut from them.

    `load_size` is what `resize` makes of the shorter side (crop) or of both (stretch).
    """

    def __init__(
        self, pictures: Pictures, config: DomainConfig, load_size: int, cache: Path | None
    ) -> None:
        self.pictures, self.image_size = pictures, config.image_size
        self.sizes = [_scaled(size, load_size, config.resize) for size in pictures.sizes]
        shapes = [(pictures.channels, H, W) for H, W in self.sizes]
        self._pack = Pack(cache, ["scaled", *pictures.key()], shapes)

    def __len__(self) -> int:
        return len(self.pictures)

    def pixels(self, index: int) -> Bytes:
        """uint8 (C, H, W)."""
        return self._pack.get(index, lambda: self._prepare(index))

    def _prepare(self, index: int) -> Bytes:
        return planes(resized(self.pictures.read(index), *self.sizes[index]))

    def cut(self, index: int, window: Window) -> Bytes:
        """uint8 (C, S, S)."""
        y, x, side, mirrored = window
        S, pixels = self.image_size, self.pixels(index)[:, y : y + side, x : x + side]
        if side != S:
            pixels = planes(resized(pixels.transpose(1, 2, 0), S, S))
        return pixels[:, :, ::-1] if mirrored else pixels

    def middle(self, index: int) -> Window:
        """The window that validation looks through."""
        H, W = self.sizes[index]
        return Window((H - self.image_size) // 2, (W - self.image_size) // 2, self.image_size)


class Windows:
    """Draws the windows of training: where, how large, mirrored or not; `load_sizes` are least and
    most.
    """

    def __init__(self, config: DomainConfig, load_sizes: tuple[int, int]) -> None:
        self.image_size, self.flip = config.image_size, config.flip
        self.least, self.most = load_sizes

    def draw(self, rng: random.Random, size: tuple[int, int]) -> Window:
        """A window of an image of `size` (H, W) that was loaded at the largest `load_size`.

        An image loaded at `most` and cut at side S most / L shows what it would show loaded at L
        and cut at side S.
        """
        H, W = size
        load_size = rng.randint(self.least, self.most)
        side = min(round(self.image_size * self.most / load_size), H, W)
        y, x = rng.randrange(H - side + 1), rng.randrange(W - side + 1)
        return Window(y, x, side, self.flip and rng.random() < 0.5)


def _scaled(size: tuple[int, int], load_size: int, how: str) -> tuple[int, int]:
    """(H, W) after resizing, as `DomainConfig.resize` says."""
    if how == "none":
        return size
    if how == "stretch":
        return load_size, load_size
    H, W = size
    short = min(H, W)
    return max(load_size, round(H * load_size / short)), max(
        load_size, round(W * load_size / short)
    )


def resized(pixels: Bytes, height: int, width: int) -> Bytes:
    """(H, W, C) -> (height, width, C) by Pillow's bicubic filter, which is antialiased; any C."""
    if pixels.shape[:2] == (height, width):
        return pixels
    size, how = (width, height), Image.Resampling.BICUBIC
    channels = [Image.fromarray(np.ascontiguousarray(c)) for c in np.moveaxis(pixels, 2, 0)]
    return np.stack([np.asarray(channel.resize(size, how)) for channel in channels], axis=2)


def any_size(config: C) -> C:
    """The config for a look at images whose size nobody has chosen yet: none is too small."""
    chosen = "image_size" in config.model_fields_set
    return config if chosen else config.model_copy(update={"image_size": 4})


def fit_sizes(config: DomainConfig, sides: Sequence[int], what: str) -> Suggestions:
    """`train`, `image_size` and `load_size` for images with these shorter sides, for `suggest`.

    The suggestions go together with what `config` says already.
    """
    low, typical, high = min(sides), sorted(sides)[len(sides) // 2], max(sides)
    found: Suggestions = {
        "train": (config.train, f"{what} train: {low} to {high} pixels on the shorter side.")
    }
    size = config.image_size
    if "image_size" not in config.model_fields_set:
        room = low if config.resize == "none" else typical
        most = config.load_sizes[0] if config.load_size else 256
        size = max(4, min(256, most, room) // 4 * 4)
        found["image_size"] = (
            size,
            f"The shorter side has {typical} pixels in half of them or more.",
        )
    if config.load_size is None and config.resize != "none":
        found["load_size"] = size * 286 // 256, "A ninth larger, then cut at random (Isola et al.)."
    return found


def all_gray(seen: Sequence[Seen]) -> bool:
    """Whether one channel holds them all."""
    return all(one.mode.startswith("gray") for one in seen)
