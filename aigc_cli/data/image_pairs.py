"""Pairs of images that show the same thing twice, such as a label map and its photograph.

Either every file holds a pair, A on the left and B on the right, or A and B are sources of their
own in which the images of a pair have the same name but for the ending. Training loads both sides
at `load_size` and cuts the same window out of both, as Isola et al., 2017,
https://arxiv.org/abs/1611.07004, section 6.2.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from aigc_cli.data._cache import Background, Bytes, cache_folder
from aigc_cli.data._check import Report, check, require_good, without
from aigc_cli.data._claim import LIKELY, MARKED, Claim, couple, look_at, parts
from aigc_cli.data._domains import (
    DomainConfig,
    Named,
    Scaled,
    Windows,
    all_gray,
    any_size,
    fit_sizes,
    name_domains,
)
from aigc_cli.data._example import paint
from aigc_cli.data._images import Checked, ImageData, Sources, held_apart, in_8_bits, to_range
from aigc_cli.data._seen import Seen
from aigc_cli.data._sources import Source, open_source
from aigc_cli.data._stream import Key, permutation
from aigc_cli.data._suggest import Suggestions
from aigc_cli.errors import DataError
from aigc_cli.specs.image import PairSpec


class Config(DomainConfig):
    """Pairs of images, and how they come to one size."""

    kind: Literal["image_pairs"] = "image_pairs"
    """Pairs of an image and what it should become."""
    train: Sources
    """Images with A left and B right; or A alone, with `train_b`; or folders trainA, trainB."""
    val: Sources | None = None
    """Pairs to validate with, as in `train`; without it every tenth pair is held out."""
    train_b: Sources | None = None
    """Images of B with the names of those in `train`, but for the ending."""
    val_b: Sources | None = None
    """Images of B with the names of those in `val`."""
    direction: Literal["a2b", "b2a"] = "a2b"
    """a2b: A is what the model is given and B what it should make of it; b2a the other way."""
    source_channels: Literal[1, 3] = 3
    """Of what the model is given: 3 for RGB, 1 for gray."""
    target_channels: Literal[1, 3] = 3
    """Of what it should make: 3 for RGB, 1 for gray."""
    aspect: Literal["same", "any"] = "same"
    """same: a side-by-side image shaped unlike most is probably no pair and cannot be used."""


@dataclass(frozen=True)
class PairPart:
    """Pairs that train or validate, by the numbers of their images; b is None side by side."""

    a: Source
    b: Source | None
    pairs: list[tuple[int, int]]
    single: Mapping[str, Mapping[int, str]]
    """For `a` and `b`: images without a partner, and why."""


def open_parts(
    config: Config, bases: Sequence[Path], *, val_only: bool = False
) -> dict[str, PairPart]:
    """What trains and what validates, as "train" and "val".

    Raises:
        DataError: a source is absent or empty, only one part names B, or there is a single pair.
    """
    train, val = name_domains(config, bases)
    if val is not None and not val.a:
        raise DataError("data.val_b: given without data.val", hint="name A with data.val")
    if val is not None and not val_only and (train.b is None) != (val.b is None):
        missing, given = ("train_b", "val_b") if train.b is None else ("val_b", "train_b")
        raise DataError(
            f"data.{missing}: missing where data.{given} or a pair of folders names domain B",
            hint=f"name the images of B with data.{missing}",
        )
    validating = {} if val is None else {"val": _open(val, "val", config, bases)}
    if val_only and validating:
        return validating
    whole = _open(train, "train", config, bases)
    if validating:
        return {"train": whole, **validating}
    if len(whole.pairs) == 1:
        raise DataError(
            f"data.train: the one pair of {whole.a.text!r} cannot both train and validate",
            hint="name other pairs with data.val",
        )
    rest, held_out = held_apart(whole.pairs)
    validating = {"val": PairPart(whole.a, whole.b, held_out, {"a": {}, "b": {}})}
    if val_only:
        return validating
    return {"train": PairPart(whole.a, whole.b, rest, whole.single), **validating}


def _open(named: Named, key: str, config: Config, bases: Sequence[Path]) -> PairPart:
    limit = config.max_pixels
    a = open_source(named.a, bases=bases, max_pixels=limit, key=f"data.{key}")
    if named.b is None:
        return PairPart(a, None, [(i, i) for i in range(len(a))], {"a": {}, "b": {}})
    b = open_source(named.b, bases=bases, max_pixels=limit, key=f"data.{key}_b")
    return matched(a, b)


def matched(a: Source, b: Source) -> PairPart:
    """The images of `a` and `b` that have the same name, but for the ending."""
    names = [[source.twin_name(i) for i in range(len(source))] for source in (a, b)]
    counts = [Counter(of_one) for of_one in names]
    number_in_b = {name: j for j, name in enumerate(names[1])}
    pairs, single = [], {"a": dict[int, str](), "b": dict[int, str]()}
    for i, name in enumerate(names[0]):
        if counts[0][name] == counts[1][name] == 1:
            pairs.append((i, number_in_b[name]))
    for side, mine, other, source in (("a", 0, 1, b), ("b", 1, 0, a)):
        for i, name in enumerate(names[mine]):
            if counts[mine][name] > 1:
                single[side][i] = f"{counts[mine][name]} images have this name"
            elif counts[other][name] != 1:
                found = counts[other][name] or "no"
                plural = "s" if counts[other][name] > 1 else ""
                single[side][i] = f"{found} image{plural} of this name in {source.text}"
    return PairPart(a, b, pairs, single)


def check_part(part: PairPart, key: str, config: Config, cache: Path | None) -> dict[str, Report]:
    """Decode the images; reports by recipe key, in which usable pairs have the same place."""
    a = check(part.a, [i for i, _ in part.pairs], unfit=_unfit(part, config), cache=cache)
    if part.b is None:
        return {f"data.{key}": a}
    b = check(part.b, [j for _, j in part.pairs], unfit=_unfit(part, config), cache=cache)
    differ = {
        i: f"{_size(a.seen[i])}, but {_size(b.seen[j])} in {part.b.text}"
        for i, j in part.pairs
        if i in a.seen and j in b.seen and _size(a.seen[i]) != _size(b.seen[j])
    }
    a, b = without(without(a, part.single["a"]), differ), without(b, part.single["b"])
    whole = [(i, j) for i, j in part.pairs if i in a.seen and j in b.seen]
    return {
        f"data.{key}": Report(a.source, {i: a.seen[i] for i, _ in whole}, a.bad, a.fingerprints),
        f"data.{key}_b": Report(b.source, {j: b.seen[j] for _, j in whole}, b.bad, b.fingerprints),
    }


def _size(seen: Seen) -> str:
    return f"{seen.width} x {seen.height}"


def _unfit(part: PairPart, config: Config) -> Callable[[Seen], str | None]:
    """Why a readable image cannot be a pair, or a side of one."""
    least = config.image_size if config.resize == "none" else 1

    def unfit(seen: Seen) -> str | None:
        if part.b is None and seen.width % 2:
            return f"{_size(seen)}, and an odd width has no middle to cut at"
        side = replace(seen, width=seen.width // 2) if part.b is None else seen
        if min(side.width, side.height) >= least:
            return None
        return f"each side is {_size(side)}, smaller than {least} x {least}"

    return unfit


def same_aspect(reports: dict[str, Report]) -> dict[str, Report]:
    """The reports in which images shaped unlike most of the first, those that train, are bad.

    Nothing changes when no shape, width by height within 2 %, is that of more than half of them.
    """
    first = next(iter(reports.values()))
    aspects = sorted(seen.width / seen.height for seen in first.seen.values())
    usual = aspects[len(aspects) // 2] if aspects else 0.0
    alike = [aspect for aspect in aspects if isclose(aspect, usual, rel_tol=0.02)]
    if 2 * len(alike) <= len(aspects):
        return reports
    return {
        key: without(
            report,
            {
                number: f"{_size(seen)}, where most are {usual:.3g} times as wide as high"
                " (data.aspect=any takes it)"
                for number, seen in report.seen.items()
                if not isclose(seen.width / seen.height, usual, rel_tol=0.02)
            },
        )
        for key, report in reports.items()
    }


def check_pairs(
    config: Config, bases: Sequence[Path], cache: Path | None, *, val_only: bool = False
) -> dict[str, Report]:
    """Reports by recipe key, which hold the usable pairs of training and validation.

    Raises:
        DataError: as `open_parts`, or images cannot be used and `on_error` is stop.
    """
    parts = open_parts(config, bases, val_only=val_only)
    reports: dict[str, Report] = {}
    for key, part in parts.items():
        reports |= check_part(part, key, config, cache)
    if next(iter(parts.values())).b is None and config.aspect == "same":
        reports = same_aspect(reports)
    require_good(reports, config.on_error)
    return reports


class ImagePairs:
    """The usable pairs of one part, the channels of the target behind those of the source."""

    def __init__(self, a: Report, b: Report | None, config: Config) -> None:
        self.a, self.b = Checked(a), Checked(b) if b else None
        self.direction = config.direction
        self.split = config.source_channels
        self.channels = config.source_channels + config.target_channels
        halves = 2 if b is None else 1
        self.sizes = [(seen.height, seen.width // halves) for seen in self.a.seen]

    def __len__(self) -> int:
        return len(self.a)

    def name(self, index: int) -> str:
        """Relative name of the file of A, which is also safe for a file to be written."""
        return self.a.name(index)

    def key(self) -> list[object]:
        """All that the pixels depend on."""
        prints = [*self.a.key, *(self.b.key if self.b else ["side by side"])]
        return ["pairs", self.direction, self.split, self.channels, *prints]

    def read(self, index: int) -> Bytes:
        """uint8 (H, W, C + C')."""
        channels = [self.split, self.channels - self.split]
        if self.direction == "b2a":
            channels.reverse()
        a = self.a.read(index)
        b = self.b.read(index) if self.b else a
        sides = [in_8_bits(a, channels[0]), in_8_bits(b, channels[1])]
        if self.b is None:
            half = a.width // 2
            sides = [sides[0][:, :half], sides[1][:, half:]]
        if self.direction == "b2a":
            sides.reverse()
        return np.concatenate(sides, axis=2)

    def as_item(self, pixels: Bytes) -> dict[str, Tensor]:
        """uint8 (..., C + C', S, S) -> source (..., C, S, S) and target (..., C', S, S)."""
        values = to_range(pixels)
        C = self.split
        return {"source": values[..., :C, :, :], "target": values[..., C:, :, :]}


class TrainingPairs:
    """Training pairs: their window follows from the seed in the key, the same for both sides."""

    def __init__(self, pairs: ImagePairs, config: Config, cache: Path | None) -> None:
        self.pairs, self.windows = pairs, Windows(config, config.load_sizes)
        self.scaled = Scaled(pairs, config, config.load_sizes[1], cache)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """One pair: source (C, S, S) and target (C', S, S) in [-1, 1]."""
        return {name: batch[0] for name, batch in self.__getitems__([key]).items()}

    def __getitems__(self, keys: Sequence[Key]) -> dict[str, Tensor]:
        """The whole batch, which a DataLoader asks for at once."""
        cut = []
        for index, seed in keys:
            window = self.windows.draw(random.Random(seed), self.scaled.sizes[index])
            cut.append(self.scaled.cut(index, window))
        return self.pairs.as_item(np.stack(cut))

    @staticmethod
    def collate(batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """For the DataLoader's `collate_fn`: a batch already is one."""
        return batch


class ValidationPairs:
    """Validation pairs: the middle of each, loaded at `image_size`."""

    def __init__(self, pairs: ImagePairs, config: Config, cache: Path | None) -> None:
        self.pairs = pairs
        self.scaled = Scaled(pairs, config, config.image_size, cache)

    def __len__(self) -> int:
        return len(self.pairs)

    def name(self, index: int) -> str:
        return self.pairs.name(index)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """source (C, S, S) and target (C', S, S) in [-1, 1]."""
        return self.pairs.as_item(self.scaled.cut(index, self.scaled.middle(index)).copy())


class Data(ImageData):
    """Training and validation pairs, all checked when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, at the size of the model.

    Raises:
        DataError: a source is absent or empty, images cannot be used or have no partner and
            `on_error` is stop, or a single pair would have to train and validate.
        MissingError: a source needs a package that is not installed.
    """

    val_batch_size: int | None = None  # images of one size are validated in batches

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: PairSpec | None = None,
    ) -> None:
        if spec is not None:
            names = ("source_channels", "target_channels", "image_size")
            config = config.model_copy(update={name: getattr(spec, name) for name in names})
        cache = cache_folder(config.cache)
        self.report = check_pairs(config, bases, cache, val_only=spec is not None)
        val = ImagePairs(self.report["data.val"], self.report.get("data.val_b"), config)
        self.val = ValidationPairs(val, config, cache)
        if spec is not None:
            self.spec = spec
            return
        self.spec = PairSpec(config.source_channels, config.target_channels, config.image_size)
        train = ImagePairs(self.report["data.train"], self.report.get("data.train_b"), config)
        self.train = TrainingPairs(train, config, cache)
        order = permutation(seed, 0, len(train))  # just ahead of a fresh run
        self._background = Background(self.train.scaled.pixels, order)


def example(folder: Path) -> dict[str, Any]:
    """Eleven pairs, in two folders."""
    paint(folder / "a", 11, seed=0)
    paint(folder / "b", 11, seed=1)
    sides = {"train": str(folder / "a"), "train_b": str(folder / "b")}
    return {"kind": "image_pairs", **sides, "image_size": 32, "cache": "off"}


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Two folders whose images have the same names, or images twice as wide as high. Folders where
    names are mere numbers may as well be classes.
    """
    values = parts(source, bases)
    if two := couple(values["train"], bases):
        a, b = (look_at(one, bases) for one in two)
        if a is None or b is None:
            return None
        names = [{f.source.twin_name(i) for i in range(len(f.source))} for f in (a, b)]
        if names[0] != names[1]:
            return None
        why = f"{len(names[0]):,} names that stand in {two[0]} and in {two[1]}"
        numbered = all(re.fullmatch(r"\D*\d+", name) for name in names[0])
        strength = LIKELY if numbered else MARKED
        return Claim({"train": two[0], "train_b": two[1]}, why, strength)
    found = look_at(values["train"], bases)
    if found is None or any(image.width != 2 * image.height for image in found.seen):
        return None
    return Claim(values, f"{len(found.source):,} images twice as wide as high: pairs", MARKED)


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """Size and channels that suit the pairs, for `aigc recipe new`.

    Raises:
        DataError: as `check_pairs`.
    """
    reports = check_pairs(any_size(config), bases, cache_folder(config.cache))
    a, b = reports["data.train"], reports.get("data.train_b")
    pairs = ImagePairs(a, b, config)
    found = fit_sizes(config, [min(size) for size in pairs.sizes], f"{len(pairs)} pairs")
    gray = all_gray(list(a.seen.values())), all_gray(list((b or a).seen.values()))
    sides = ("target", "source") if config.direction == "b2a" else ("source", "target")
    for side, is_gray in zip(sides, gray, strict=True):
        if is_gray:
            found[f"{side}_channels"] = (1, "All of these images are gray.")
    return found
