"""`aigc sample`: files made by a trained model, with a record of how."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from aigc_cli.data._check import BadPicturesError, Seen, check
from aigc_cli.data._domains import DomainConfig, resized
from aigc_cli.data._pictures import in_8_bits
from aigc_cli.data._sources import Source, open_source
from aigc_cli.data.images import fitted
from aigc_cli.errors import InputError, OutputError, PromptError
from aigc_cli.media import alpha
from aigc_cli.media.image import (
    Picture,
    from_tensor,
    tile_grid,
    to_tensor,
    write_animation,
    write_picture,
)
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.models._base import GenerativeModule
from aigc_cli.models._text import TextModule
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.run.writing import open_prompts, write_texts
from aigc_cli.sampling.interpolation import InterpolatedNoise
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec, PairSpec, PictureSpec, SuperResolutionSpec, UnpairedSpec
from aigc_cli.specs.text import LabelledTextSpec

FORMATS = ("png", "jpg", "webp", "tiff")
SHEET = 64  # pictures on a sheet
THUMBNAIL = 256  # sides of pictures of any size on a sheet
BEST = 5  # classes named for each picture


@dataclass(frozen=True)
class Request:
    """What a user asks of `aigc sample`."""

    out: Path
    input: Path | None = None
    prompts: tuple[str, ...] = ()
    output: Path | None = None
    references: tuple[Path, ...] = ()
    count: int | None = None
    interpolate: int = 0
    seed: int = 0
    batch_size: int = 16
    format: str = "png"
    overwrite: bool = False


Files = Iterator[tuple[Path, dict[str, Any]]]
"""Each file written, with what samples.json says of it."""


def sample(
    source: str,
    request: Request,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    ema: bool = True,
    made: Callable[[Path], None] = lambda path: None,
    shown: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Make samples of a run, checkpoint or training-free recipe in `request.out`; returns what
    samples.json records. `made` is told each file, `shown` each text.

    The same seed gives the same samples, whatever the batch size. Options are `key=value` of the
    family.

    Raises:
        InputError: no input where the model needs one, or the other way round. DataError: pictures
        that cannot be used, all of them named, before anything is written. OutputError: `out` is in
        use.
    """
    trained = load_trained(source, overrides, device=device, ema=ema)
    files: Iterable[tuple[Path, dict[str, Any]]]
    if isinstance(trained.model, TextModule):
        files, speed = texts(trained, request, shown)
    elif isinstance(trained.spec, LabelledTextSpec):
        files, speed = name_texts(trained, request, shown), {}
    else:
        files, speed = writer(trained, request)(trained, request), {}
    items = []
    for path, facts in files:
        made(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        name = path if request.output is not None else path.relative_to(request.out)
        items.append({"path": name.as_posix(), **facts, "sha256": digest})
    record: dict[str, Any] = {
        "seed": request.seed,
        "options": trained.recipe.sample.model_dump(mode="json"),
        "model": trained.describe(),
        "items": items,
    }
    if request.output is None:
        write_text(request.out / "samples.json", json.dumps(record, indent=2, ensure_ascii=False))
    where = str(request.output or request.out)
    if speed.get("unread") and record["options"]["on_error"] == "report":
        raise PromptError(
            f"{speed['unread']} of {items[0]['texts']} texts have no answer, as their prompts "
            f"cannot be read: the field 'error' says why in {items[0]['path']}",
            hint="the others are written; on_error=skip makes this a success",
        )
    return {"ok": True, "out": where, **record, **speed, "note": too_large(trained, items)}


def too_large(trained: Trained, items: Sequence[dict[str, Any]]) -> str | None:
    """What to tell who translated pictures far larger than those the model has learned from."""
    data, options = trained.recipe.data, trained.recipe.sample
    if not isinstance(data, DomainConfig) or data.resize == "none":
        return None
    if getattr(options, "short_side", None) != 0:
        return None
    most = max(data.load_sizes)
    # answers are as large as their input here, and there may be several of one
    sides = {i["input"]: min(i["width"], i["height"]) for i in items if "width" in i}
    large = sum(side >= 2 * most for side in sides.values())
    if not large:
        return None
    return (
        f"{large} of {len(sides)} pictures are twice as large as the {most} pixels trained with "
        f"or larger, perhaps too large to be recognised; short_side={most} reduces them"
    )


def texts(
    trained: Trained, request: Request, shown: Callable[[str], None]
) -> tuple[list[tuple[Path, dict[str, Any]]], dict[str, Any]]:
    """Write the texts of a model; the files as in `Files`, and how fast it was.

    Raises:
        InputError: as `open_prompts`, or references, which only pictures have.
    """
    model = trained.model
    assert isinstance(model, TextModule)
    if request.references:
        raise InputError(f"--reference is not for family '{trained.recipe.family}'")
    prompts = open_prompts(model, request.prompts, request.input)
    if request.output is not None:
        prepare_file(request.output, overwrite=request.overwrite)
    else:
        prepare_output(request.out, overwrite=request.overwrite)
    files, count, speed = write_texts(
        trained, prompts, out=request.out, single=request.output, count=request.count,
        interpolate=request.interpolate, seed=request.seed, batch_size=request.batch_size,
        shown=shown,
    )  # fmt: skip
    return [(path, {"seed": request.seed, "texts": count}) for path in files], speed


def name_texts(trained: Trained, request: Request, shown: Callable[[str], None]) -> Files:
    """The classes of each text with their probabilities, as labels.csv.

    Raises:
        InputError: as `open_prompts`, or an option that is for something else.
    """
    spec, model = trained.spec, trained.model
    assert isinstance(spec, LabelledTextSpec)
    if request.count is not None or request.interpolate or request.references:
        raise InputError("-n, --interpolate and --reference do not apply: each text has one answer")
    if request.output is not None:
        raise InputError(
            "--output is for texts that are written", hint="choose a folder with --out"
        )
    given = [str(text) for text in open_prompts(model, request.prompts, request.input)]
    prepare_output(request.out, overwrite=request.overwrite)
    found: list[Best] = []
    for first in range(0, len(given), request.batch_size):
        found += best_of(
            model.classify_texts(given[first : first + request.batch_size]), spec.labels
        )
    for text, [(label, p), *_] in zip(given, found, strict=True):
        shown(f"{label} {p:.4f}  {text}")
    path = request.out / "labels.csv"
    write_text(path, labels_table("text", given, found))
    yield path, {"texts": len(given)}


def writer(trained: Trained, request: Request) -> Callable[[Trained, Request], Files]:
    """What suits the model and the request.

    Raises:
        InputError: an input, references, a count or an interpolation that the model cannot use.
    """
    model, family = trained.model, trained.recipe.family
    makes = model.makes
    if request.prompts or request.output is not None:
        raise InputError(f"--prompt and --output are for texts; family '{family}' makes pictures")
    if makes == "samples" and request.input is not None:
        if type(model).translate is GenerativeModule.translate:
            raise InputError(f"family '{family}' takes no --input", hint="give -n instead")
        makes = "translations"
    if makes != "samples" and request.input is None:
        raise InputError(
            f"family '{family}' works on pictures and needs some",
            hint="add --input photo.jpg, or a folder",
        )
    if makes in ("enlargements", "labels") and request.count is not None:
        raise InputError("-n does not apply: there is one result for each input picture")
    if makes != "samples" and request.interpolate:
        raise InputError(f"--interpolate does not apply: family '{family}' works on pictures")
    least, most = model.reference_count
    if not least <= len(request.references) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise InputError(
            f"family '{family}' takes {wanted} --reference, not {len(request.references)}",
            hint="a reference is a picture, such as the style to paint in" if most else None,
        )
    return {
        "enlargements": enlarge,
        "translations": translate,
        "labels": classify,
        "samples": interpolate if request.interpolate else draw,
    }[makes]


def default_output(source: str) -> Path:
    """samples/<name of the run>-<time>: never an existing folder."""
    path = Path(source).resolve()  # runs/NAME/latest -> runs/NAME/TIME
    run = path.parent.parent if path.suffix == ".ckpt" else path
    name = run.parent.name if run.name[:4].isdigit() else run.name
    return Path("samples") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"


def prepare_output(out: Path, *, overwrite: bool) -> None:
    """Make the folder; refuse one with files in it unless told otherwise.

    Raises:
        OutputError: it is a file, holds files, or cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file, not a folder", hint="name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise OutputError(
            f"{out}: already holds files", hint="choose another --out, or add --overwrite"
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".tmp-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error


def prepare_file(path: Path, *, overwrite: bool) -> None:
    """Make the folder of a file to be written; refuse one that exists unless told otherwise.

    Raises:
        OutputError: it exists, or its folder cannot be made.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(f"{path}: exists already", hint="choose another, or add --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def enlarge(trained: Trained, request: Request) -> Files:
    """Super-resolution of a picture or of all pictures of a source."""
    assert isinstance(trained.spec, SuperResolutionSpec)
    source = checked_input(request, _unfit(trained.spec.channels, request.format))
    prepare_output(request.out, overwrite=request.overwrite)
    targets = output_names(source, f"_x{trained.spec.scale}", request.format)
    for number, target in enumerate(targets):
        larger = enlarge_picture(trained, source.read(number))
        path = request.out / target
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, larger)
        size = {"width": larger.width, "height": larger.height}
        yield path, {"input": source.name(number), **size, **getattr(trained.model, "facts", {})}


def enlarge_picture(trained: Trained, picture: Picture) -> Picture:
    """The picture `scale` times as large, with its bits, transparency, EXIF and profile.

    Transparency is enlarged bicubically; gray pictures pass an RGB model as three equal channels.
    """
    assert isinstance(trained.spec, SuperResolutionSpec)
    scale, dtype = trained.spec.scale, picture.pixels.dtype.type
    low = picture.as_channels(trained.spec.channels)
    if picture.alpha is None:
        high = _enlarged(trained, to_tensor(low.pixels), picture.channels)
        return replace(picture, pixels=from_tensor(high, dtype))
    colors, opacity = alpha.unit(low.pixels), alpha.unit(picture.alpha)
    background = alpha.surroundings(colors, opacity)
    seen = _tensor(alpha.blend(colors, opacity, background))
    seen = _enlarged(trained, seen, low.channels)
    larger = resize_bicubic(picture.alpha, scale=scale)
    background = resize_bicubic(background, scale=scale).clip(0, 1)
    colors = alpha.unblend(_colors(seen), alpha.unit(larger), background)
    if picture.channels == 1:
        colors = colors.mean(2, keepdims=True)
    return replace(picture, pixels=alpha.levels(colors, dtype), alpha=larger)


def _enlarged(trained: Trained, low: Tensor, channels: int) -> Tensor:
    """What the model makes of low (C, h, w), as (`channels`, s h, s w) on the CPU."""
    model, options = trained.model, trained.recipe.sample
    high: Tensor = model.sample(1, options, condition={"low": low[None].to(model.device)})[0].cpu()
    return high.mean(0, keepdim=True) if channels == 1 else high


def _tensor(colors: alpha.Floats) -> Tensor:
    """(H, W, C) in [0, 1] -> (C, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(colors.transpose(2, 0, 1))).mul_(2).sub_(1)


def _colors(image: Tensor) -> alpha.Floats:
    """(C, H, W) in [-1, 1] -> (H, W, C) in [0, 1], but for what lies outside."""
    return image.float().add(1).div_(2).permute(1, 2, 0).numpy()


def draw(trained: Trained, request: Request) -> Files:
    """Pictures out of noise, one file each, and the first SHEET of them on one sheet."""
    prepare_output(request.out, overwrite=request.overwrite)
    count = 16 if request.count is None else request.count
    pictures: list[Picture] = []
    for first in range(0, count, request.batch_size):
        noise = SampleNoise(request.seed, first, min(request.batch_size, count - first))
        for number, picture in enumerate(_pictures(trained, noise), first):
            path = request.out / f"sample-{number:05d}.{request.format}"
            write_picture(path, picture)
            yield path, {"seed": request.seed, "index": number, **_label(trained, number)}
            pictures += [picture] if number < SHEET else []
    columns = ceil(len(pictures) ** 0.5)
    names = getattr(trained.spec, "labels", None)
    if trained.model.conditional and trained.recipe.sample.model_dump().get("label") is None:
        columns = min(len(names or ()), 16) or columns  # a column for each class
    sheet = request.out / "grid.png"
    write_picture(sheet, tile_grid(pictures, columns))
    yield sheet, {"seed": request.seed}


def interpolate(trained: Trained, request: Request) -> Files:
    """The way from each sample to the next in `request.interpolate` steps: one file each, a sheet
    with a row for each way, and a film.
    """
    model, options, steps = trained.model, trained.recipe.sample, request.interpolate
    if model.conditional and getattr(options, "label", None) is None:
        raise InputError(
            "between samples of different classes there is no way to go",
            hint="choose one class, as label=NAME",
        )
    prepare_output(request.out, overwrite=request.overwrite)
    count = 5 if request.count is None else request.count
    rows = (count - 1) * steps + 1
    pictures: list[Picture] = []
    for first in range(0, rows, request.batch_size):
        size = min(request.batch_size, rows - first)
        noise = InterpolatedNoise(request.seed, first, size, steps=steps)
        for number, picture in enumerate(_pictures(trained, noise), first):
            path = request.out / f"frame-{number:05d}.{request.format}"
            write_picture(path, picture)
            yield path, {"seed": request.seed, "between": number / steps}
            pictures.append(picture)
    sheet, film = request.out / "grid.png", request.out / "film.gif"
    ways = [p for way in range(max(1, count - 1)) for p in pictures[way * steps :][: steps + 1]]
    write_picture(sheet, tile_grid(ways, steps + 1))
    yield sheet, {"seed": request.seed}
    write_animation(film, pictures)
    yield film, {"seed": request.seed, "frames": rows}


def translate(trained: Trained, request: Request) -> Files:
    """What the model makes of each picture of a source, `request.count` answers each.

    Transparency is kept, EXIF and profile too where the answer has the same colours; sheets show
    inputs beside answers.
    """
    model, options = trained.model, trained.recipe.sample
    channels = input_channels(trained.spec)
    source = checked_input(request, _unfit(channels, request.format))
    references = [_reference(path, channels).to(model.device) for path in request.references]
    prepare_output(request.out, overwrite=request.overwrite)
    count = 1 if request.count is None else request.count
    shown: list[Picture] = []
    for number, target in enumerate(output_names(source, "", request.format)):
        picture = source.read(number)
        image = over_white(picture, channels).to(model.device)
        noise = SampleNoise(request.seed, number << 20, count)
        with torch.no_grad():
            answers = model.translate(image, options, noise, references)
        made = [_answer(picture, answer) for answer in answers.float().cpu()]
        path = request.out / target
        path.parent.mkdir(parents=True, exist_ok=True)
        for index, answer in enumerate(made):
            file = path if count == 1 else path.with_stem(f"{path.stem}-{index:02d}")
            write_picture(file, answer)
            size = {"width": answer.width, "height": answer.height}
            yield file, {"input": source.name(number), "seed": request.seed, **size}
        if len(shown) < SHEET:
            shown += [small(p) for p in (picture, *made)]
        with torch.no_grad():
            frames = model.animation(image, options, SampleNoise(request.seed, number << 20, 1))
        if frames:
            film = path.with_suffix(".gif")
            write_animation(film, [Picture(from_tensor(f)) for f in frames])
            yield film, {"input": source.name(number), "frames": len(frames)}
    sheet = request.out / "grid.png"
    write_picture(sheet, tile_grid(shown, count + 1))
    yield sheet, {"seed": request.seed}


def classify(trained: Trained, request: Request) -> Files:
    """The classes of each picture of a source with their probabilities, as labels.csv."""
    spec, model = trained.spec, trained.model
    assert isinstance(spec, ImageSpec)
    assert spec.labels is not None
    source = checked_input(request, _unfit(spec.channels, "png"))
    prepare_output(request.out, overwrite=request.overwrite)
    how = trained.recipe.data.model_dump().get("resize", "crop")
    found: list[Best] = []
    for first in range(0, len(source), request.batch_size):
        numbers = range(first, min(first + request.batch_size, len(source)))
        pixels = [in_8_bits(source.read(number), spec.channels) for number in numbers]
        square: Literal["crop", "stretch"] = "stretch" if how == "stretch" else "crop"
        images = [to_tensor(fitted(p, spec.image_size, square)) for p in pixels]
        found += best_of(model.classify(torch.stack(images).to(model.device)), spec.labels)
    names = [source.name(number) for number in range(len(source))]
    path = request.out / "labels.csv"
    write_text(path, labels_table("file", names, found))
    yield path, {"pictures": len(source)}


Best = list[tuple[str, float]]
"""The likeliest classes of a thing, the likeliest first."""


def best_of(probabilities: Tensor, names: Sequence[str]) -> list[Best]:
    """Of each row (B, K) the likeliest classes by name, BEST at most."""
    values, classes = probabilities.topk(min(BEST, len(names)))
    return [
        [(names[c], p) for c, p in zip(label, value, strict=True)]
        for value, label in zip(values.tolist(), classes.tolist(), strict=True)
    ]


def labels_table(what: str, things: Sequence[str], found: Sequence[Best]) -> str:
    """CSV with a row for each thing: the classes and their probabilities in turn."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    count = len(found[0])
    rows.writerow([what, *(f"{k}_{n}" for n in range(1, count + 1) for k in ("label", "p"))])
    for thing, best in zip(things, found, strict=True):
        rows.writerow([thing, *(field for label, p in best for field in (label, f"{p:.4f}"))])
    return table.getvalue()


def input_channels(spec: Spec) -> int:
    """Channels of the pictures that a model of this spec works on."""
    match spec:
        case PairSpec():
            return spec.source_channels
        case ImageSpec() | UnpairedSpec() | SuperResolutionSpec() | PictureSpec():
            return spec.channels
    raise InputError(f"models of '{spec.kind}' do not work on pictures")


def over_white(picture: Picture, channels: int) -> Tensor:
    """The picture as a model sees it: (channels, H, W) in [-1, 1], transparency over white."""
    picture = picture.as_channels(channels)
    return (
        to_tensor(picture.pixels) if picture.alpha is None else _tensor(alpha.over_white(picture))
    )


def small(picture: Picture) -> Picture:
    """The picture, or a reduction with sides of at most THUMBNAIL pixels, for sheets."""
    scale = max(picture.width, picture.height) / THUMBNAIL
    if scale <= 1:
        return picture
    size = (max(1, round(picture.height / scale)), max(1, round(picture.width / scale)))
    pixels = alpha.levels(alpha.over_white(picture), np.uint8)
    return Picture(resized(pixels, *size))


def checked_input(request: Request, unfit: Callable[[Seen], str | None]) -> Source:
    """The pictures of --input. Each is decoded once before the first is worked on, so that a
    damaged one is found before a long job and not in the middle of it.

    Raises:
        DataError: names every picture that cannot be used.
    """
    assert request.input is not None
    source = open_input(request.input, "--input")
    report = check(source, range(len(source)), unfit=unfit)
    if report.bad:
        raise BadPicturesError({"--input": report}, hint="repair or remove them")
    return source


def _pictures(trained: Trained, noise: SampleNoise) -> list[Picture]:
    with torch.no_grad():
        images: Tensor = trained.model.sample(noise.count, trained.recipe.sample, noise)
    return [Picture(from_tensor(image)) for image in images.float().cpu()]


def _label(trained: Trained, number: int) -> dict[str, str]:
    """The class of a sample by name, for samples.json."""
    labels = trained.model.labels_of(trained.recipe.sample, number, 1)
    names = getattr(trained.spec, "labels", None)
    return {} if labels is None or names is None else {"label": names[int(labels)]}


def _reference(path: Path, channels: int) -> Tensor:
    source = open_input(path, "--reference")
    if len(source) != 1:
        raise InputError(f"--reference {path}: holds {len(source)} pictures", hint="name one")
    return over_white(source.read(0), channels)


def _answer(picture: Picture, image: Tensor) -> Picture:
    """The model's answer (C, H, W) with the bits and what else belongs to the input.

    Over white, as the model saw its input, a transparent answer looks as the model made it.
    """
    dtype = picture.pixels.dtype.type
    icc = picture.icc if len(image) == picture.channels else None
    if picture.alpha is None:
        return Picture(from_tensor(image, dtype), exif=picture.exif, icc=icc)
    H, W = image.shape[1:]
    opacity = resize_bicubic(picture.alpha, size=(H, W))
    colors = alpha.unblend(_colors(image), alpha.unit(opacity), alpha.WHITE)
    return Picture(alpha.levels(colors, dtype), opacity, picture.exif, icc)


def open_input(path: Path, option: str) -> Source:
    """The pictures a user names: a file, a folder with its sub-folders, or any source of a recipe.

    Raises:
        DataError: there is no such thing, or no picture in it; `option` says what was asked.
    """
    return open_source(str(path), key=option)


def output_names(source: Source, suffix: str, format: str) -> list[str]:
    """photo.jpg -> photo<suffix>.png, in the same sub-folder; with its old ending where two would
    collide.
    """
    names = [PurePosixPath(source.name(number)) for number in range(len(source))]
    count = Counter(name.with_suffix("") for name in names)

    def new(name: PurePosixPath) -> str:
        old = f"_{name.suffix[1:]}" if count[name.with_suffix("")] > 1 else ""
        return str(name.with_name(f"{name.stem}{suffix}{old}.{format}"))

    return [new(name) for name in names]


def _unfit(channels: int, format: str) -> Callable[[Seen], str | None]:
    """Why a readable picture does not suit a model of `channels`, or its answer a `format`."""

    def unfit(seen: Seen) -> str | None:
        color, _, bits = seen.mode.partition(" ")
        if channels == 1 and color.startswith("RGB"):
            return "has colour, and the model is for gray pictures"
        if format == "jpg" and color.endswith("A"):
            return "has transparency, which JPEG cannot hold"
        if format in ("jpg", "webp") and bits:
            return f"has 16 bits, which {format.upper()} cannot hold"
        return None

    return unfit
