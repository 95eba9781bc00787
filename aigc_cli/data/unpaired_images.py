"""Images of two domains, A and B, that do not belong together one by one: horses and zebras.

An epoch has as many items as the larger domain has images. Item i shows image i of A, counted
round when A is the smaller, and an image of B that is drawn at random, as in the reference code of
Zhu et al., 2017, https://arxiv.org/abs/1703.10593. For style transfer A are photographs and B
paintings, of which one may do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import model_validator
from torch import Tensor

from aigc_cli.data._cache import Background, Bytes, cache_folder
from aigc_cli.data._check import Report, at_least, check, require_good
from aigc_cli.data._claim import MARKED, POSSIBLE, Claim, couple, look_at, parts
from aigc_cli.data._domains import (
    TRAIN_FOLDERS,
    DomainConfig,
    LoadSize,
    Scaled,
    Windows,
    all_gray,
    any_size,
    fit_sizes,
    least_and_most,
    name_domains,
)
from aigc_cli.data._example import paint
from aigc_cli.data._images import (
    Checked,
    ImageData,
    PictureConfig,
    Sources,
    in_8_bits,
    split,
    to_range,
)
from aigc_cli.data._sources import subfolders
from aigc_cli.data._stream import Key, permutation
from aigc_cli.data._suggest import Suggestions
from aigc_cli.errors import DataError
from aigc_cli.specs.image import UnpairedSpec

MOST_ENLARGED = 8
"""Times that an image may be upscaled before there is nothing in it to learn from."""


class Config(DomainConfig, PictureConfig):
    """Images of two domains, and how they come to one size."""

    kind: Literal["unpaired_images"] = "unpaired_images"
    """Images of two domains that do not belong together."""
    train: Sources
    """Images of domain A, with `train_b`; or a folder or zip with folders trainA and trainB."""
    val: Sources | None = None
    """Images of A to validate with; without it testA beside trainA, or every tenth image."""
    train_b: Sources | None = None
    """Images of domain B; not needed where `train` holds trainA and trainB."""
    val_b: Sources | None = None
    """Images of B to validate with; without it testB beside trainB, or every tenth image."""
    load_size_b: LoadSize = None
    """The same for B, such as large paintings beside photographs; as `load_size` when not given."""

    @property
    def load_sizes_b(self) -> tuple[int, int]:
        """Least and most for images of B."""
        return least_and_most(self.load_size_b or self.load_size, self.image_size)

    @model_validator(mode="after")
    def _window_fits_b(self) -> Self:
        self.require_window("load_size_b", self.load_size_b)
        return self


def check_domains(
    config: Config, bases: Sequence[Path], cache: Path | None, *, val_only: bool = False
) -> dict[str, Report]:
    """Reports by recipe key: data.train, data.val, data.train_b, data.val_b; or what validates.

    Raises:
        DataError: a source is absent or empty, nothing names B, a single image would have to
            train and validate, or images cannot be used and `on_error` is stop.
    """
    train, val = name_domains(config, bases)
    if train.b is None and not (val_only and val is not None and val.a and val.b):
        raise DataError(
            "data.train_b: missing, and data.train holds no folders trainA and trainB",
            hint="name the images of domain B with data.train_b",
        )
    val_a, val_b = val if val else (None, None)
    limit = config.max_pixels
    parts = split(train.a, val_a or None, bases=bases, max_pixels=limit, val_only=val_only)
    parts |= split(
        train.b or (), val_b, bases=bases, max_pixels=limit, suffix="_b", val_only=val_only
    )
    least = config.image_size if config.resize == "none" else config.image_size // MOST_ENLARGED
    unfit = at_least(least)
    reports = {
        key: check(part.source, part.numbers, unfit=unfit, cache=cache)
        for key, part in parts.items()
    }
    require_good(reports, config.on_error)
    return reports


class Domain:
    """The usable images of one domain in one part."""

    def __init__(self, report: Report, channels: int) -> None:
        self.pictures, self.channels = Checked(report), channels
        self.sizes = [(seen.height, seen.width) for seen in self.pictures.seen]

    def __len__(self) -> int:
        return len(self.pictures)

    def key(self) -> list[object]:
        """All that the pixels depend on."""
        return ["domain", *self.pictures.key]

    def read(self, index: int) -> Bytes:
        """uint8 (H, W, C)."""
        return in_8_bits(self.pictures.read(index), self.channels)


class TrainingDomains:
    """Training images: the one of B and both windows follow from the seed in the key."""

    def __init__(self, a: Domain, b: Domain, config: Config, cache: Path | None) -> None:
        self.a = Scaled(a, config, config.load_sizes[1], cache)
        self.b = Scaled(b, config, config.load_sizes_b[1], cache)
        self.windows_a = Windows(config, config.load_sizes)
        self.windows_b = Windows(config, config.load_sizes_b)

    def __len__(self) -> int:
        """Images of the larger domain."""
        return max(len(self.a), len(self.b))

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """a (C, S, S) and b (C, S, S) in [-1, 1]."""
        return {name: batch[0] for name, batch in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """The whole batch, which a DataLoader asks for at once."""
        a, b = [], []
        for index, seed in keys:
            rng = random.Random(seed)
            a.append(_cut(self.a, index % len(self.a), self.windows_a, rng))
            b.append(_cut(self.b, rng.randrange(len(self.b)), self.windows_b, rng))
        return {"a": to_range(np.stack(a)), "b": to_range(np.stack(b))}

    @staticmethod
    def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """For the DataLoader's `collate_fn`: a batch already is one."""
        return batch


def _cut(domain: Scaled, index: int, windows: Windows, rng: random.Random) -> Bytes:
    return domain.cut(index, windows.draw(rng, domain.sizes[index]))


class ValidationDomains:
    """Validation: the middle of each image of A, beside those of B in turn."""

    def __init__(self, a: Domain, b: Domain, config: Config, cache: Path | None) -> None:
        self.domain = a
        size = config.image_size
        self.a, self.b = Scaled(a, config, size, cache), Scaled(b, config, size, cache)

    def __len__(self) -> int:
        """Images of A."""
        return len(self.a)

    def name(self, index: int) -> str:
        """Relative name of the file of A, which is also safe for a file to be written."""
        return self.domain.pictures.name(index)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """a (C, S, S) and b (C, S, S) in [-1, 1]."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        j = index % len(self.b)
        a = self.a.cut(index, self.a.middle(index))
        b = self.b.cut(j, self.b.middle(j))
        return {"a": to_range(a.copy()), "b": to_range(b.copy())}


class Data(ImageData):
    """Training and validation images of both domains, all checked when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, at the size of the model.

    Raises:
        DataError: as `check_domains`.
        MissingError: a source needs a package that is not installed.
    """

    val_batch_size: int | None = 8  # sets are compared, which takes several; training may take one

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: UnpairedSpec | None = None,
    ) -> None:
        if spec is not None:
            sizes = {"channels": spec.channels, "image_size": spec.image_size}
            config = config.model_copy(update=sizes)
        cache = cache_folder(config.cache)
        self.report = check_domains(config, bases, cache, val_only=spec is not None)
        domains = {key: Domain(report, config.channels) for key, report in self.report.items()}
        self.val = ValidationDomains(domains["data.val"], domains["data.val_b"], config, cache)
        self.spec = spec or UnpairedSpec(config.channels, config.image_size)
        if spec is not None:
            return
        self.train = TrainingDomains(domains["data.train"], domains["data.train_b"], config, cache)
        order = permutation(seed, 0, len(self.train))  # just ahead of a fresh run
        self._background = Background(self._prepare, order)

    def _prepare(self, index: int) -> None:
        """B is taken in the same order: what its items will draw is not worth knowing ahead."""
        self.train.a.pixels(index % len(self.train.a))
        self.train.b.pixels(index % len(self.train.b))


def example(folder: Path) -> dict[str, Any]:
    """Eleven images of each domain."""
    paint(folder / "a", 11, seed=0)
    paint(folder / "b", 11, seed=1)
    domains = {"train": str(folder / "a"), "train_b": str(folder / "b")}
    return {"kind": "unpaired_images", **domains, "image_size": 32, "cache": "off"}


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Folders trainA and trainB, or any two folders of images."""
    values = parts(source, bases)
    folders = set(subfolders(source, bases))
    if any(folders >= {a, b} for a, b in TRAIN_FOLDERS):
        return Claim({"train": source}, "folders of two domains, A and B", MARKED)
    two = couple(values["train"], bases)
    if two is None or any(look_at(one, bases) is None for one in two):
        return None
    return Claim({"train": two[0], "train_b": two[1]}, f"images of {two[0]} and {two[1]}", POSSIBLE)


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """Size and channels that suit both domains, for `aigc recipe new`.

    Raises:
        DataError: as `check_domains`.
    """
    reports = check_domains(any_size(config), bases, cache_folder(config.cache))
    a, b = (list(reports[key].seen.values()) for key in ("data.train", "data.train_b"))
    sides = [min(seen.height, seen.width) for seen in a + b]
    found = fit_sizes(config, sides, f"{len(a)} images of A and {len(b)} of B")
    if all_gray(a + b):
        found["channels"] = (1, "All images are gray.")
    return found
