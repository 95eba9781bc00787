"""What an evaluation needs to know of images: pairs and sets of them, of files and of models, and
the sheets that show them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data._check import BadImagesError, check
from aigc_cli.data._sources import FileSource, Source, open_source
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.image import (
    MAX_PIXELS,
    Pixels,
    Raster,
    from_tensor,
    tile_grid,
    to_tensor,
    write_image,
)
from aigc_cli.media.resize import modcrop, resize_bicubic
from aigc_cli.metrics._things import Corpus, Pair, Sets, Side, Things
from aigc_cli.metrics.image import copies
from aigc_cli.modalities import _judging
from aigc_cli.modalities._image_things import DataPart, FileThings, Translated, Whole, rounded
from aigc_cli.modalities._judging import MOST, Trial, by_stem, recorded_samples, unpaired
from aigc_cli.recipe.load import Recipe
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec, PairSpec, SuperResolutionSpec, UnpairedSpec

DETAIL = 96  # pixels of a side in the comparison sheets
SHEET = 64  # images on a sheet
SUSPECTS = 8  # rows of the image of copies
PARTS = {"train": "training part", "val": "validation part"}


class Reading(_judging.Reading):
    """How images that are compared are read, as KEY=VALUE."""

    on_error: Literal["stop", "skip"] = "stop"
    """skip leaves out images that cannot be used; the report lists them."""
    max_pixels: int = Field(MAX_PIXELS, gt=0)
    """Larger images are not read."""


class Judging(_judging.Judging):
    """Images, of files, of super-resolution, of translations and of noise."""

    usual = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb")
    reads = Reading

    def open_corpus(
        self,
        generated: Path,
        references: Sequence[Path],
        baseline: Path | None,
        reading: _judging.Reading,
        limit: int | None,
    ) -> Corpus:
        """Images that pair by their names, 8 bits (H, W, C).

        Raises:
            DataError: names do not pair up, or images cannot be used; says which and how many.
            InputError: there is a baseline, or more than one reference.
        """
        assert isinstance(reading, Reading)
        if baseline is not None or len(references) > 1:
            raise InputError("--baseline and several --reference are not for images")
        made = Opened(generated, "--generated", reading, None)
        if not references:
            return Corpus(made.names[:limit], made.read, facts=_facts(made))
        truth = Opened(references[0], "--reference", reading, None)
        pairs = pair_names(made, truth, reading.suffix)[:limit]
        return Corpus(
            [name for name, _, _ in pairs],
            lambda i: made.read(pairs[i][1]),
            lambda i: [truth.read(pairs[i][2])],
            facts=_facts(made, truth),
        )

    def open_set(
        self, path: Path, option: str, reading: _judging.Reading, limit: int | None
    ) -> tuple[Things, list[str]]:
        assert isinstance(reading, Reading)
        opened = Opened(path, option, reading, limit)
        return FileThings(opened.source, numbers=opened.numbers), opened.skipped

    def options(self, trial: Trial) -> Mapping[str, Any]:
        """The border of super-resolution is its scale."""
        spec = trial.model.spec
        return {"border": spec.scale} if isinstance(spec, SuperResolutionSpec) else {}

    def of_whole(self, trial: Trial) -> tuple[str, ...]:
        return self.usual if isinstance(trial.model.spec, SuperResolutionSpec) else ()

    def made_corpus(self, trial: Trial) -> Corpus:
        if isinstance(trial.model.spec, SuperResolutionSpec):
            return enlargements(trial)
        if trial.model.takes is not None:
            raise InputError(
                f"family '{trial.recipe.family}' measures its answers itself",
                hint=f"choose from: {', '.join(trial.model.measures or trial.model.metrics)}, or a "
                "metric of sets, such as fid",
            )
        return super().made_corpus(trial)

    def made_sets(self, trial: Trial) -> Sets:
        return model_sets(self, trial)

    def thing_made(self, made: Tensor) -> Pixels:
        return from_tensor(made)

    def show_sets(self, folder: Path, sets: Sets, side: Side) -> None:
        show_sets(folder, sets, side)


# Files.


class Opened:
    """Images of a user's, each looked at once, before the first is worked on."""

    def __init__(self, path: Path, option: str, reading: Reading, limit: int | None) -> None:
        """
        Raises:
            DataError: nothing is there; or images that cannot be used, all of them named.
        """
        samples = recorded_samples(path)
        self.inputs = {name: given for name, given in (samples or {}).items() if given}
        self.source: Source
        if samples is None:
            self.source = open_source(str(path), key=option)
        else:
            self.source = FileSource([path / name for name in samples], list(samples))
            self.source.text = str(path)
        self.source.max_pixels = reading.max_pixels
        report = check(self.source, range(len(self.source))[:limit])
        if report.bad and reading.on_error == "stop":
            hint = "repair or remove them, or leave them out with on_error=skip"
            raise BadImagesError({option: report}, hint=hint)
        self.numbers = sorted(report.seen)
        self.skipped = [f"{name}: {reason}" for name, reason in report.bad]
        self.transparent = sum(seen.mode.split()[0].endswith("A") for seen in report.seen.values())
        if not self.numbers:
            raise DataError(f"{option}: {path} holds no image that can be used")

    def read(self, place: int) -> Pixels:
        """8 bits (H, W, C); what is transparent counts with the colors that it has."""
        return _pixels(self.source.read(self.numbers[place]))

    @property
    def names(self) -> list[str]:
        return [self.source.name(number) for number in self.numbers]


def pair_names(
    generated: Opened, reference: Opened, suffix: str = ""
) -> list[tuple[str, int, int]]:
    """(name, place in generated, place in reference), by what samples.json says the image was made
    of, else where names agree but for ending and suffix; where several agree so, whole names count.
    Two single images pair whatever their names.

    Raises:
        DataError: an image has no partner, or two have the same name.
    """
    if len(generated.numbers) == len(reference.numbers) == 1:
        return [(generated.names[0], 0, 0)]
    named = [generated.inputs.get(name, name) for name in generated.names]
    if not generated.inputs:
        suffix = suffix or _own_suffix(named)
        named = [_without(name, suffix) for name in named]
    ours = by_stem(named, str(generated.source.text))
    theirs = by_stem(reference.names, str(reference.source.text))
    # what was skipped on one side has no partner on the other, and that is known already
    alone = sorted(ours.keys() ^ theirs.keys())
    if alone and not (generated.skipped or reference.skipped):
        raise unpaired(len(ours), len(theirs), alone, ours.keys())
    return [(key, ours[key], theirs[key]) for key in sorted(ours.keys() & theirs.keys())]


def _own_suffix(names: Sequence[str]) -> str:
    """`_x2` where all names end so, as aigc names what it upscaled."""
    found = {m[0] if (m := re.search(r"_x\d+$", PurePosixPath(n).stem)) else "" for n in names}
    return found.pop() if len(found) == 1 else ""


def _without(name: str, suffix: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_stem(path.stem.removesuffix(suffix) or path.stem)) if suffix else name


def _facts(*opened: Opened) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if skipped := [text for one in opened for text in one.skipped]:
        facts["skipped"] = skipped
    if many := sum(one.transparent for one in opened):
        facts["notes"] = [f"{many} images are transparent: their colors are compared, not alpha"]
    return facts


def _pixels(picture: Raster) -> Pixels:
    """8 bits; what is transparent counts with the colors that it has."""
    return picture.as_bits(8).pixels


# Super-resolution.


class Enlargements(Corpus):
    """Each image cropped to a multiple of the scale, reduced by MATLAB's bicubic imresize to 8
    bit, then upscaled by the model, and by bicubic beside it. `trial.save` is a folder for what
    the model made and, side by side, for magnified details of bicubic, model and original.
    """

    def __init__(
        self,
        trial: Trial,
        names: Sequence[str],
        original: Callable[[int], Pixels],
        facts: Mapping[str, Any],
    ) -> None:
        """original: 8 bits, with the channels of the model."""
        self.trial, self.original = trial, original
        super().__init__(names, self._made, lambda number: [self._target(number)], facts=facts)

    def pairs(self) -> Iterator[Pair]:
        trial, scale = self.trial, self.trial.model.spec.scale
        for number, name in enumerate(self.names):
            target, preds = self._target(number), self._made(number)
            bicubic = resize_bicubic(self._low(number), scale=scale)
            yield Pair(name, preds, target, {"bicubic": bicubic})
            if trial.save is not None:
                sides = {"bicubic": bicubic, trial.recipe.family: preds, "original": target}
                _save(trial.save / Path(name).with_suffix(".png"), preds, sides)

    def _target(self, number: int) -> Pixels:
        return modcrop(self.original(number), self.trial.model.spec.scale)

    def _low(self, number: int) -> Pixels:
        return resize_bicubic(self._target(number), scale=1 / self.trial.model.spec.scale)

    def _made(self, number: int) -> Pixels:
        trial, noise = self.trial, SampleNoise(0, 0, 1)
        given = to_tensor(self._low(number)).to(trial.model.device)
        with torch.no_grad():
            return from_tensor(trial.model.sample(noise, trial.recipe.sample, given)[0].cpu())


def enlargements(trial: Trial) -> Enlargements:
    """Of `trial.source`, or of the validation images."""
    spec = trial.model.spec
    facts: dict[str, Any] = {"reduction": f"MATLAB imresize bicubic x1/{spec.scale}, 8 bit"}
    if trial.source is None:
        val = trial.open_data().val
        names = [val.name(number) for number in trial.first(val)]
        return Enlargements(trial, names, lambda i: from_tensor(val[i]["high"]), facts)
    assert isinstance(trial.reading, Reading)
    opened = Opened(trial.source, "--data", trial.reading, trial.limit)
    if opened.skipped:
        facts["skipped"] = opened.skipped

    def original(place: int) -> Pixels:
        picture = opened.source.read(opened.numbers[place])
        return _pixels(picture.as_channels(spec.channels))

    return Enlargements(trial, opened.names, original, facts)


def _save(path: Path, made: Pixels, sides: dict[str, Pixels]) -> None:
    """What the model made as `path`, and <name>-compare.png with the middle of every side, x4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, Raster(made))
    H, W = made.shape[:2]
    h, w = min(H, DETAIL), min(W, DETAIL)
    y, x = (H - h) // 2, (W - w) // 2
    details = [
        Raster(p[y : y + h, x : x + w].repeat(4, axis=0).repeat(4, axis=1)) for p in sides.values()
    ]
    sheet = tile_grid(details, len(sides), labels=list(sides))
    write_image(path.with_name(f"{path.stem}-compare.png"), sheet)


# Sets of a model.


def model_sets(judging: Judging, trial: Trial) -> Sets:
    """What the model makes and what it is compared with.

    Raises:
        InputError: the family makes nothing that could be compared.
    """
    model, spec, recipe, data = trial.model, trial.model.spec, trial.recipe, trial.open_data()

    def part(which: str, name: str) -> DataPart:
        items = data.train if which == "train" else data.val
        text = _source(recipe, which, name)
        if trial.source is not None and which == "val" and name != "b":
            text = str(trial.source)
        if isinstance(spec, UnpairedSpec):
            text, side = f"{text}, domain {name.upper()}", Whole(getattr(items, name), recipe.data)
            return DataPart(side, f"{text}, {PARTS[which]}")
        return DataPart(items, f"{text}, {PARTS[which]}", name=name)

    # which part of a pair is made of which
    inputs: str | None = None
    match spec:
        case ImageSpec() if model.makes == "image" and model.draws:
            name = "image"
        case PairSpec() if model.takes == "image":
            inputs, name = "source", "target"
        case UnpairedSpec() if model.takes == "image":
            backwards = getattr(recipe.sample, "direction", "a2b") == "b2a"
            inputs, name = ("b", "a") if backwards else ("a", "b")
        case _:
            raise InputError(f"family '{recipe.family}' makes nothing that sets could be made of")

    # what is real: what is asked for, and of the rest a floor of the same number
    train, val = part("train", name) if hasattr(data, "train") else None, part("val", name)
    which = trial.references[-1] if trial.references else "val"
    if which == "train" and train is None:
        raise InputError("--reference train: the training images are not here")
    known: dict[str, DataPart | None] = {"train": train, "val": val}
    reference: Things | None = known.get(which)
    if reference is None:
        reference, _ = judging.open_set(Path(which), "--reference", trial.reading, None)

    # what is made, out of noise or of the inputs
    generated: Things
    given: Things | None = None
    if inputs is None:
        count = trial.count or min(len(reference), MOST)
        generated = Drawn(judging, trial, count)
    else:
        given = part("val", inputs).first(trial.count or MOST)
        generated = Translated(trial, given)
    others = val if which == "train" else train
    other = others.some(len(generated), trial.seed) if others is not None else None
    if other is not None and len(other) < 2:
        other = None
    labels = spec.labels if isinstance(spec, ImageSpec) else None
    return Sets(generated, reference, train, other, val, given, labels, made=True)


class Drawn(_judging.Drawn):
    """Rounded to 8 bits, as an extractor sees them: (C, H, W) in [-1, 1]."""

    def read(self, numbers: Sequence[int]) -> list[Tensor]:
        return list(rounded(torch.stack(self.tensors(numbers))))


def _source(recipe: Recipe, part: str, domain: str = "a") -> str:
    """What the recipe says of where a part comes from, "b" having keys of its own."""
    config = recipe.data.model_dump()
    suffix = "_b" if domain == "b" else ""
    keys = [f"{part}{suffix}", f"train{suffix}", part, "train"]  # one folder may hold everything
    named = next(config[key] for key in keys if config.get(key) is not None)
    return named if isinstance(named, str) else ", ".join(named)


# Sheets.


def show_sets(folder: Path, sets: Sets, side: Side) -> None:
    """Sheets of both sets, and the most suspicious images beside their nearest training ones."""
    for name, things in (("generated", sets.generated), ("reference", sets.reference)):
        if things is not None:
            images = things.read(range(min(SHEET, len(things))))
            write_image(folder / f"{name}.png", tile_grid([_large(x) for x in images], 8))
    if side.train is None or sets.train is None:
        return
    found = copies.found(side)
    cells, captions = [], []
    for number in found.distance[:, 0].argsort()[:SUSPECTS].tolist():
        cells += [_large(x) for x in sets.generated.read([number])]
        captions.append(f"number {number}")
        near = zip(found.index[number].tolist(), found.distance[number].tolist(), strict=True)
        for index, distance in near:
            cells += [_large(x) for x in sets.train.read([index])]
            captions.append(f"{distance:.3g}" + (" !" if distance < found.threshold else ""))
    columns = 1 + found.index.shape[1]
    write_image(folder / "neighbors.png", tile_grid(cells, columns, labels=captions))


def _large(image: Tensor, side: int = 96) -> Raster:
    """An image to look at: small ones upscaled by whole pixels."""
    factor = max(1, side // max(image.shape[-2:]))
    return Raster(from_tensor(image).repeat(factor, 0).repeat(factor, 1))
