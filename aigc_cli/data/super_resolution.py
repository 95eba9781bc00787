"""Pairs of a photograph and its bicubic reduction, made from any folder of photographs.

The small side is MATLAB's `imresize(..., 'bicubic')` of the whole image, rounded to 8 bits, as in
every published benchmark; patches are cut at whole small pixels, so both sides show the same.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field
from torch import Tensor

from aigc_cli.data._cache import Background, Bytes, Pack, cache_folder
from aigc_cli.data._check import at_least, check, require_good
from aigc_cli.data._claim import LIKELY, POSSIBLE, Claim, look_at, parts
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
from aigc_cli.data._stream import Key, permutation
from aigc_cli.data._suggest import Suggestions, look
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.specs.image import SuperResolutionSpec

SMALLEST, PHOTOGRAPH = 32, 160  # pixels of images that `recognize` takes, and thinks likely
SSIM_WINDOW = 11  # a validation image must hold one, without its border of `scale` pixels


class Config(PictureConfig):
    """Photographs, and how they become pairs."""

    kind: Literal["super_resolution"] = "super_resolution"
    """Pairs of a photograph and its reduction."""
    scale: Literal[2, 3, 4] = 2
    """How many times larger the model makes an image."""
    patch_size: int = Field(48, ge=8, le=1024)
    """Side of a training patch in small pixels."""
    augment: bool = True
    """Turn and mirror training patches at random, in all 8 ways."""


class ReducedImages:
    """Whole images of one part; each is decoded and reduced when first needed, then kept."""

    def __init__(self, pictures: Checked, config: Config, cache: Path | None) -> None:
        self.pictures = pictures
        self.scale, self.channels = s, C = config.scale, config.channels
        sizes = [(seen.height, seen.width) for seen in pictures.seen]
        small = [(H // s, W // s) for H, W in sizes]
        key = [C, *pictures.key]
        self._whole = Pack(cache, ["whole", *key], [(C, H, W) for H, W in sizes])
        self._small = Pack(cache, ["bicubic", s, *key], [(C, h, w) for h, w in small])

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """Relative name of the file, which is also safe for a file to be written."""
        return self.pictures.name(index)

    def high(self, index: int) -> Bytes:
        """uint8 (C, s h, s w), cropped to a multiple of the scale."""
        whole = self._whole.get(index, lambda: self._decode(index))
        _, H, W = whole.shape
        return whole[:, : H - H % self.scale, : W - W % self.scale]

    def low(self, index: int) -> Bytes:
        """uint8 (C, h, w), the reduction of `high`."""
        return self._small.get(index, lambda: self._reduce(self.high(index)))

    def _decode(self, index: int) -> Bytes:
        return planes(in_8_bits(self.pictures.read(index), self.channels))

    def _reduce(self, high: Bytes) -> Bytes:
        return planes(resize_bicubic(high.transpose(1, 2, 0), scale=1 / self.scale))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The whole pair: low (C, h, w) and high (C, s h, s w) in [-1, 1]."""
        low, high = self.low(index), self.high(index)
        return {"low": to_range(low.copy()), "high": to_range(high.copy())}


class Patches:
    """Training patches: everything random about one follows from the seed in its key."""

    def __init__(self, pairs: ReducedImages, *, patch_size: int, augment: bool) -> None:
        self.pairs, self.patch_size, self.augment = pairs, patch_size, augment

    def __len__(self) -> int:
        """Images, each of which gives one patch in an epoch."""
        return len(self.pairs)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """One pair of patches: low (C, p, p) and high (C, s p, s p) in [-1, 1]."""
        return {name: batch[0] for name, batch in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """The whole batch, which a DataLoader asks for at once: low (B, C, p, p), high (B, ...)."""
        B, C, p, s = len(keys), self.pairs.channels, self.patch_size, self.pairs.scale
        low = np.empty((B, C, p, p), np.uint8)
        high = np.empty((B, C, s * p, s * p), np.uint8)
        for b, (index, seed) in enumerate(keys):
            draw = random.Random(seed)
            small = self.pairs.low(index)
            y = draw.randrange(small.shape[1] - p + 1)
            x = draw.randrange(small.shape[2] - p + 1)
            way = draw.randrange(8) if self.augment else 0
            low[b] = turned(_crop(small, y, x, p), way)
            high[b] = turned(_crop(self.pairs.high(index), s * y, s * x, s * p), way)
        return {"low": to_range(low), "high": to_range(high)}

    @staticmethod
    def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """For the DataLoader's `collate_fn`: a batch already is one."""
        return batch


def _crop(planes: Bytes, y: int, x: int, size: int) -> Bytes:
    return planes[:, y : y + size, x : x + size]


def turned(planes: Bytes, way: int) -> Bytes:
    """One of the 8 flips and quarter turns of (C, H, W), as a view; 0 leaves it alone."""
    if way & 1:
        planes = planes[:, ::-1]
    if way & 2:
        planes = planes[:, :, ::-1]
    return planes.swapaxes(1, 2) if way & 4 else planes


class Data(ImageData):
    """Training patches and validation images, all checked when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, at the scale of the model.

    Raises:
        DataError: a source is absent or empty, or images cannot be used and `on_error` is stop.
        MissingError: a source needs a package that is not installed.
    """

    val_batch_size: int | None = 1  # whole images of different sizes

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: SuperResolutionSpec | None = None,
    ) -> None:
        if spec is not None:
            sizes = {"channels": spec.channels, "scale": spec.scale}
            config = config.model_copy(update=sizes)
        cache = cache_folder(config.cache)
        least = {
            "data.train": config.scale * config.patch_size,
            "data.val": SSIM_WINDOW + 2 * config.scale,
        }
        self.report = {
            key: check(part.source, part.numbers, unfit=at_least(least[key]), cache=cache)
            for key, part in open_parts(config, bases, val_only=spec is not None).items()
        }
        require_good(self.report, config.on_error)
        self.spec = spec or SuperResolutionSpec(channels=config.channels, scale=config.scale)
        pairs = {
            key: ReducedImages(Checked(report), config, cache)
            for key, report in self.report.items()
        }
        self.val = pairs["data.val"]
        if train := pairs.get("data.train"):
            self.train = Patches(train, patch_size=config.patch_size, augment=config.augment)
            order = permutation(seed, 0, len(train))  # just ahead of a fresh run
            self._background = Background(train.low, order)


def example(folder: Path) -> dict[str, Any]:
    """Eleven images, of which patches of 16 small pixels are cut."""
    paint(folder / "photos", 11)
    train = str(folder / "photos")
    return {"kind": "super_resolution", "train": train, "patch_size": 16, "cache": "off"}


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Images from which a patch can be cut; large ones are likely to be photographs."""
    values = parts(source, bases)
    found = look_at(values["train"], bases)
    if found is None or found.side < SMALLEST:
        return None
    return Claim(values, str(found), LIKELY if found.side >= PHOTOGRAPH else POSSIBLE)


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """A patch that the smallest training image holds, for `aigc recipe new`.

    Raises: as `look`.
    """
    found = look(config, bases)
    small = found.sides[0] // config.scale
    patch = max(8, min(48, small - small % 8))
    reason = f"48 is usual; the smallest image is {small} on its shorter side after reduction."
    return found.shared() | {"patch_size": (patch, reason)}
