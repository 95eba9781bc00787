"""`aigc sample`: files made by a trained model, with a record of how."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from aigc_cli.data._check import BadPicturesError, Seen, check
from aigc_cli.data._sources import Source, open_source
from aigc_cli.errors import InputError, OutputError
from aigc_cli.media.image import Picture, from_tensor, tile_grid, to_tensor, write_picture
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import ImageSpec, SuperResolutionSpec

FORMATS = ("png", "jpg", "webp", "tiff")
SHEET = 64


@dataclass(frozen=True)
class Request:
    """What a user asks of `aigc sample`."""

    out: Path
    input: Path | None = None
    count: int | None = None
    seed: int = 0
    batch_size: int = 16
    format: str = "png"
    overwrite: bool = False


def sample(
    source: str,
    request: Request,
    overrides: Sequence[str] = (),
    *,
    device: str = "auto",
    ema: bool = True,
    made: Callable[[Path], None] = lambda path: None,
) -> dict[str, Any]:
    """Make samples of a run or checkpoint in `request.out`; returns what samples.json records.

    The same seed gives the same samples, whatever the batch size. Options are `key=value` of the
    family.

    Raises:
        InputError: no input where the model needs one, or the other way round. DataError: pictures
        that cannot be used, all of them named, before anything is written. OutputError: `out` is in
        use.
    """
    options = [f"sample.{text}" for text in overrides]
    trained = load_trained(source, options, device=device, ema=ema)
    match trained.spec:
        case SuperResolutionSpec():
            files = enlarge(trained, request)
        case ImageSpec():
            files = draw(trained, request)
        case _:
            raise InputError(f"family '{trained.recipe.family}' does not sample files yet")
    items = []
    for path, facts in files:
        made(path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        items.append({"path": path.relative_to(request.out).as_posix(), **facts, "sha256": digest})
    record = {
        "seed": request.seed,
        "options": trained.recipe.sample.model_dump(mode="json"),
        "model": trained.describe(),
        "items": items,
    }
    write_text(request.out / "samples.json", json.dumps(record, indent=2, ensure_ascii=False))
    return {"ok": True, "out": str(request.out), **record}


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


def enlarge(trained: Trained, request: Request) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Super-resolution of a picture or of all pictures of a source.

    Every picture is decoded once before the first is enlarged, so that a damaged one is found
    before a long job and not in the middle of it.
    """
    if request.input is None:
        raise InputError(
            f"family '{trained.recipe.family}' enlarges pictures and needs some",
            hint="add --input photo.jpg, or a folder",
        )
    if request.count is not None:
        raise InputError("-n does not apply: there is one result for each input picture")
    assert isinstance(trained.spec, SuperResolutionSpec)
    source = open_input(request.input, "--input")
    report = check(source, range(len(source)), unfit=_unfit(trained.spec.channels, request.format))
    if report.bad:
        raise BadPicturesError({"--input": report}, hint="repair or remove them")
    prepare_output(request.out, overwrite=request.overwrite)
    targets = output_names(source, trained.spec.scale, request.format)
    for number, target in enumerate(targets):
        larger = enlarge_picture(trained, source.read(number))
        path = request.out / target
        path.parent.mkdir(parents=True, exist_ok=True)
        write_picture(path, larger)
        size = {"width": larger.width, "height": larger.height}
        yield path, {"input": source.name(number), **size}


def enlarge_picture(trained: Trained, picture: Picture) -> Picture:
    """The picture `scale` times as large, with its bits, transparency, EXIF and profile.

    Transparency is enlarged bicubically; gray pictures pass an RGB model as three equal channels.
    """
    assert isinstance(trained.spec, SuperResolutionSpec)
    model, scale = trained.model, trained.spec.scale
    low = to_tensor(picture.as_channels(trained.spec.channels).pixels)[None].to(model.device)
    high = model.sample(1, trained.recipe.sample, condition={"low": low})[0].cpu()
    if picture.channels == 1:
        high = high.mean(0, keepdim=True)
    alpha = picture.alpha
    return replace(
        picture,
        pixels=from_tensor(high, picture.pixels.dtype.type),
        alpha=None if alpha is None else resize_bicubic(alpha, scale=scale),
    )


def draw(trained: Trained, request: Request) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Pictures out of noise, one file each, and the first SHEET of them on one sheet."""
    if request.input is not None:
        raise InputError(
            f"family '{trained.recipe.family}' takes no --input", hint="give -n instead"
        )
    prepare_output(request.out, overwrite=request.overwrite)
    count = 16 if request.count is None else request.count
    pictures: list[Picture] = []
    for first in range(0, count, request.batch_size):
        size = min(request.batch_size, count - first)
        noise = SampleNoise(request.seed, first, size)
        with torch.no_grad():
            images: Tensor = trained.model.sample(size, trained.recipe.sample, noise)
        for number, image in enumerate(images.float().cpu(), first):
            picture = Picture(from_tensor(image))
            path = request.out / f"sample-{number:05d}.{request.format}"
            write_picture(path, picture)
            yield path, {"seed": request.seed, "index": number}
            pictures += [picture] if number < SHEET else []
    sheet = request.out / "grid.png"
    write_picture(sheet, tile_grid(pictures, ceil(len(pictures) ** 0.5)))
    yield sheet, {"seed": request.seed}


def open_input(path: Path, option: str) -> Source:
    """The pictures a user names: a file, a folder with its sub-folders, or any source of a recipe.

    Raises:
        DataError: there is no such thing, or no picture in it; `option` says what was asked.
    """
    return open_source(str(path), key=option)


def output_names(source: Source, scale: int, format: str) -> list[str]:
    """photo.jpg -> photo_x2.png, in the same sub-folder; with its old ending where two would
    collide.
    """
    names = [PurePosixPath(source.name(number)) for number in range(len(source))]
    count = Counter(name.with_suffix("") for name in names)

    def new(name: PurePosixPath) -> str:
        old = f"_{name.suffix[1:]}" if count[name.with_suffix("")] > 1 else ""
        return str(name.with_name(f"{name.stem}_x{scale}{old}.{format}"))

    return [new(name) for name in names]


def _unfit(channels: int, format: str) -> Callable[[Seen], str | None]:
    """Why a readable picture cannot be enlarged by a model of `channels` into a `format`."""

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
