"""What an evaluation needs to know of images: pairs and sets of them, of files and of models, and
the sheets that show them.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data._check import BadPicturesError, check
from aigc_cli.data._sources import Files as FileSource
from aigc_cli.data._sources import Source, open_source
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.image import (
    MAX_PIXELS,
    Picture,
    Pixels,
    from_tensor,
    tile_grid,
    to_tensor,
    write_picture,
)
from aigc_cli.media.resize import modcrop, resize_bicubic
from aigc_cli.metrics._things import Corpus, Pair, Side, Things
from aigc_cli.metrics.image import copies
from aigc_cli.recipe.load import Recipe
from aigc_cli.run.asked import Asked, Reading
from aigc_cli.run.pictures import Drawn, Files, Part, Translated, Whole
from aigc_cli.run.sets import Sets
from aigc_cli.run.trained import Trained
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec, PairSpec, SuperResolutionSpec, UnpairedSpec

DETAIL = 96  # pixels of a side in the comparison sheets
USUAL = ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb")
MOST = 10_000  # images that are made when no number is given
SHEET = 64  # images on a sheet
SUSPECTS = 8  # rows of the picture of copies
PARTS = {"train": "training part", "val": "validation part"}


class Reading_(Reading):
    """How images that are compared are read, as KEY=VALUE."""

    on_error: Literal["stop", "skip"] = "stop"
    """skip leaves out images that cannot be used; the report lists them."""
    max_pixels: int = Field(MAX_PIXELS, gt=0)
    """Larger images are not read."""


# Files.


class Opened:
    """Images of a user's, each looked at once, before the first is worked on."""

    def __init__(self, path: Path, option: str, reading: Reading_, limit: int | None) -> None:
        """
        Raises:
            DataError: nothing is there; or images that cannot be used, all of them named.
        """
        made, self.inputs = samples_in(path)
        self.source: Source = made or open_source(str(path), key=option)
        self.source.max_pixels = reading.max_pixels
        found = self.source
        report = check(found, range(len(found))[:limit])
        if report.bad and reading.on_error == "stop":
            hint = "repair or remove them, or leave them out with on_error=skip"
            raise BadPicturesError({option: report}, hint=hint)
        self.numbers = sorted(report.seen)
        self.skipped = [f"{name}: {reason}" for name, reason in report.bad]
        self.transparent = sum(seen.mode.split()[0].endswith("A") for seen in report.seen.values())
        if not self.numbers:
            raise DataError(f"{option}: {path} holds no image that can be used")


def samples_in(path: Path) -> tuple[FileSource | None, dict[str, str]]:
    """The samples of a folder that `aigc sample` wrote, without its sheets and films, and what
    each was made of, by name; None where it wrote no such folder.
    """
    record = path / "samples.json"
    if not record.is_file():
        return None, {}
    try:
        items = json.loads(record.read_text(encoding="utf-8"))["items"]
        made = [i for i in items if {"index", "input", "between"} & i.keys() and "frames" not in i]
        names = [str(item["path"]) for item in made]
        inputs = {str(item["path"]): str(item["input"]) for item in made if "input" in item}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{record} is no record of samples: {error}") from error
    there = [name for name in names if (path / name).is_file()]
    if not there:
        return None, {}
    source = FileSource([path / name for name in there], there)
    source.text = str(path)
    return source, inputs


def open_corpus(
    generated: Path,
    references: Sequence[Path],
    baseline: Path | None,
    reading: Reading,
    limit: int | None,
) -> Corpus:
    """Images that pair by their names, 8 bits (H, W, C).

    Raises:
        DataError: names do not pair up, or images cannot be used; says which and how many.
        InputError: there is a baseline, or not one reference.
    """
    assert isinstance(reading, Reading_)
    if baseline is not None or len(references) > 1:
        raise InputError("--baseline and several --reference are for texts")
    made = Opened(generated, "--generated", reading, None)
    if not references:
        own = [made.source.name(n) for n in made.numbers][:limit]
        read_own = lambda i: _pixels(made.source.read(made.numbers[i]))  # noqa: E731
        return Corpus(own, read_own, lambda i: [], facts=_facts(made))
    truth = Opened(references[0], "--reference", reading, None)
    pairs = pair_names(made, truth, reading.suffix)[:limit]
    return Corpus(
        [name for name, _, _ in pairs],
        lambda i: _pixels(made.source.read(pairs[i][1])),
        lambda i: [_pixels(truth.source.read(pairs[i][2]))],
        facts=_facts(made, truth),
    )


def _facts(*opened: Opened) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if skipped := [text for one in opened for text in one.skipped]:
        facts["skipped"] = skipped
    if many := sum(one.transparent for one in opened):
        facts["notes"] = [f"{many} images are transparent: their colors are compared, not alpha"]
    return facts


def pair_names(
    generated: Opened, reference: Opened, suffix: str = ""
) -> list[tuple[str, int, int]]:
    """(name, number in generated, number in reference), by what samples.json says the image was
    made of, else where names agree but for ending and suffix; where several agree so, whole names
    count. Two single images pair whatever their names.

    Raises:
        DataError: an image has no partner, or two have the same name.
    """
    made, truth = generated.source, reference.source
    if len(generated.numbers) == len(reference.numbers) == 1:
        one, other = generated.numbers[0], reference.numbers[0]
        return [(made.name(one), one, other)]
    named = [generated.inputs.get(made.name(n), made.name(n)) for n in generated.numbers]
    if not generated.inputs:
        suffix = suffix or _own_suffix(named)
        named = [_without(name, suffix) for name in named]
    theirs = [truth.name(n) for n in reference.numbers]
    ours, known = _keys(named, generated.numbers, made), _keys(theirs, reference.numbers, truth)
    # what was skipped on one side has no partner on the other, and that is known already
    lost = bool(generated.skipped or reference.skipped)
    alone = sorted(ours.keys() ^ known.keys())
    if alone and not lost:
        side = "reference" if alone[0] in ours else "generated"
        raise DataError(
            f"{len(ours)} generated and {len(known)} reference images do not pair by name: "
            f"'{alone[0]}' has no {side} ({len(alone)} without a partner)",
            hint="give both folders the same file names; endings may differ, and suffix=_x2 is "
            "left out of generated names",
        )
    return [(key, ours[key], known[key]) for key in sorted(ours.keys() & known.keys())]


def _own_suffix(names: Sequence[str]) -> str:
    """`_x2` where all names end so, as aigc names what it enlarged."""
    found = {m[0] if (m := re.search(r"_x\d+$", PurePosixPath(n).stem)) else "" for n in names}
    return found.pop() if len(found) == 1 else ""


def _without(name: str, suffix: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_stem(path.stem.removesuffix(suffix) or path.stem)) if suffix else name


def _keys(names: Sequence[str], numbers: Sequence[int], source: Source) -> dict[str, int]:
    """Names without endings, with them where that makes two equal."""
    stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
    count = Counter(stems)
    keys: dict[str, int] = {}
    for name, stem, number in zip(names, stems, numbers, strict=True):
        key = name if count[stem] > 1 else stem
        if keys.setdefault(key, number) != number:
            raise DataError(f"{source.text}: two images are called '{key}'", hint="keep one")
    return keys


def open_set(
    path: Path, option: str, reading: Reading, limit: int | None
) -> tuple[Things, list[str]]:
    """The images of a user's as a set, and those that were skipped."""
    assert isinstance(reading, Reading_)
    opened = Opened(path, option, reading, limit)
    return Files(opened.source, numbers=opened.numbers), opened.skipped


def _pixels(picture: Picture) -> Pixels:
    """8 bits; what is transparent counts with the colors that it has."""
    return picture.as_bits(8).pixels


# Models.


def enlargements(
    trained: Trained, originals: Iterator[tuple[str, Pixels]], save: Path | None
) -> Iterator[Pair]:
    """Each image cropped to a multiple of the scale, reduced by MATLAB's bicubic imresize to 8
    bit, then enlarged by the model, and by bicubic beside it. `save` is a folder for what the model
    made and, side by side, for magnified details of bicubic, model and original.
    """
    spec = trained.spec
    assert isinstance(spec, SuperResolutionSpec)
    for name, original in originals:
        target = modcrop(original, spec.scale)
        low = resize_bicubic(target, scale=1 / spec.scale)
        preds = _enlarge(trained, low)
        bicubic = resize_bicubic(low, scale=spec.scale)
        yield Pair(name, preds, target, {"bicubic": bicubic})
        if save is not None:
            sides = {"bicubic": bicubic, trained.recipe.family: preds, "original": target}
            _save(save / Path(name).with_suffix(".png"), preds, sides)


def originals(
    trained: Trained, data: Path | None, reading: Reading_, limit: int | None, held_out: Any
) -> tuple[Iterator[tuple[str, Pixels]], list[str]]:
    """8-bit images with the model's channels, those of `data` or the recipe's validation images;
    and what was skipped.
    """
    spec = trained.spec
    assert isinstance(spec, SuperResolutionSpec)
    channels = spec.channels
    if data is None:
        count = min(limit or len(held_out), len(held_out))
        items = ((held_out.name(i), from_tensor(held_out[i]["high"])) for i in range(count))
        return items, []
    opened = Opened(data, "--data", reading, limit)
    read = opened.source.read
    named = (
        (opened.source.name(n), _pixels(read(n).as_channels(channels))) for n in opened.numbers
    )
    return named, opened.skipped


def _enlarge(trained: Trained, low: Pixels) -> Pixels:
    given, noise = to_tensor(low).to(trained.model.device), SampleNoise(0, 0, 1)
    with torch.no_grad():
        return from_tensor(trained.model.sample(noise, trained.recipe.sample, given)[0].cpu())


def _save(path: Path, made: Pixels, sides: dict[str, Pixels]) -> None:
    """What the model made as `path`, and <name>-compare.png with the middle of every side, x4."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, Picture(made))
    H, W = made.shape[:2]
    h, w = min(H, DETAIL), min(W, DETAIL)
    y, x = (H - h) // 2, (W - w) // 2
    details = [
        Picture(p[y : y + h, x : x + w].repeat(4, axis=0).repeat(4, axis=1)) for p in sides.values()
    ]
    sheet = tile_grid(details, len(sides), labels=list(sides))
    write_picture(path.with_name(f"{path.stem}-compare.png"), sheet)


def model_sets(trained: Trained, data: Any, asked: Asked, reading: Reading_) -> Sets:
    """What the model makes and what it is compared with.

    Raises:
        InputError: the family makes nothing that could be compared.
    """
    model, spec, recipe = trained.model, trained.spec, trained.recipe

    def part(which: str, name: str) -> Part:
        items = data.train if which == "train" else data.val
        text = _source(recipe, which, name)
        if asked.data is not None and which == "val" and name != "b":
            text = str(asked.data)
        if isinstance(spec, UnpairedSpec):
            text, side = f"{text}, domain {name.upper()}", Whole(getattr(items, name), recipe.data)
            return Part(side, f"{text}, {PARTS[which]}")
        return Part(items, f"{text}, {PARTS[which]}", name=name)

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
    which = asked.references[-1] if asked.references else "val"
    if which == "train" and train is None:
        raise InputError("--reference train: the training images are not here")
    known: dict[str, Part | None] = {"train": train, "val": val}
    reference: Things | None = known.get(which)
    if reference is None:
        reference, _ = open_set(Path(which), "--reference", reading, None)

    # what is made, out of noise or of the inputs
    generated: Things
    given: Things | None = None
    if inputs is None:
        count = asked.count or min(len(reference), MOST)
        generated = Drawn(trained, count, asked.seed)
    else:
        given = part("val", inputs).first(asked.count or MOST)
        generated = Translated(trained, given, asked.seed)
    others = val if which == "train" else train
    other = others.some(len(generated), asked.seed) if others is not None else None
    if other is not None and len(other) < 2:
        other = None
    labels = spec.labels if isinstance(spec, ImageSpec) else None
    return Sets(generated, reference, train, other, val, given, labels, made=True)


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
            write_picture(folder / f"{name}.png", tile_grid([_large(x) for x in images], 8))
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
    write_picture(folder / "neighbours.png", tile_grid(cells, columns, labels=captions))


def _large(image: Tensor, side: int = 96) -> Picture:
    """An image to look at: small ones enlarged by whole pixels."""
    factor = max(1, side // max(image.shape[-2:]))
    return Picture(from_tensor(image).repeat(factor, 0).repeat(factor, 1))
