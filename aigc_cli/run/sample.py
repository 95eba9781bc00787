"""`aigc sample`: files made by a trained model, with a record of how."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aigc_cli.errors import DataError, InputError, OutputError
from aigc_cli.media.image import (
    SUFFIXES,
    Picture,
    from_tensor,
    read_picture,
    tile_grid,
    to_tensor,
    write_picture,
)
from aigc_cli.media.resize import resize_bicubic
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained, load_trained
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import ImageSpec, SuperResolutionSpec

FORMATS = ("png", "jpg", "webp", "tiff")


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
        InputError: no input where the model needs one, or the other way round. OutputError: `out`
        is in use.
    """
    options = [f"sample.{text}" for text in overrides]
    trained = load_trained(source, options, device=device, ema=ema)
    prepare_output(request.out, overwrite=request.overwrite)
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
    path = Path(source)
    name = path.parent.parent.name if path.suffix == ".ckpt" else path.name
    if name == "latest" or name[:4].isdigit():
        name = path.resolve().parent.name
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
    """Super-resolution of a picture or a folder of pictures."""
    if request.input is None:
        raise InputError(
            f"family '{trained.recipe.family}' enlarges pictures and needs some",
            hint="add --input photo.jpg, or a folder",
        )
    if request.count is not None:
        raise InputError("-n does not apply: there is one result for each input picture")
    assert isinstance(trained.spec, SuperResolutionSpec)
    files = list(input_files(request.input))
    targets = [output_name(path, root, trained.spec.scale, request) for path, root in files]
    twice = {t for t in targets if targets.count(t) > 1}
    for (path, _), target in zip(files, targets, strict=True):
        picture = read_picture(path)
        larger = enlarge_picture(trained, picture)
        if target in twice:  # photo.jpg beside photo.png
            target = target.with_name(f"{target.stem}_{path.suffix[1:]}{target.suffix}")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_picture(target, larger)
        size = {"width": larger.width, "height": larger.height}
        yield target, {"input": str(path), **size}


def enlarge_picture(trained: Trained, picture: Picture) -> Picture:
    """The picture `scale` times as large, with its bits, transparency, EXIF and profile.

    Transparency is enlarged bicubically; gray pictures pass an RGB model as three equal channels.
    """
    assert isinstance(trained.spec, SuperResolutionSpec)
    model, scale = trained.model, trained.spec.scale
    if trained.spec.channels == 1 and picture.channels == 3:
        raise DataError(
            "the model is for gray pictures and this one has colour",
            hint="convert it first, or train with data.channels=3",
        )
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
    """Pictures out of noise, one file each, and all of them on one sheet."""
    if request.input is not None:
        raise InputError(
            f"family '{trained.recipe.family}' takes no --input", hint="give -n instead"
        )
    count = 16 if request.count is None else request.count
    pictures: list[Picture] = []
    for first in range(0, count, request.batch_size):
        size = min(request.batch_size, count - first)
        noise = SampleNoise(request.seed, first, size)
        with torch.no_grad():
            images: Tensor = trained.model.sample(size, trained.recipe.sample, noise)
        for number, image in enumerate(images.float().cpu(), first):
            pictures.append(Picture(from_tensor(image)))
            path = request.out / f"sample-{number:05d}.{request.format}"
            write_picture(path, pictures[-1])
            yield path, {"seed": request.seed, "index": number}
    sheet = request.out / "grid.png"
    write_picture(sheet, tile_grid(pictures, int(np.ceil(count**0.5))))
    yield sheet, {"seed": request.seed}


def input_files(path: Path) -> Iterator[tuple[Path, Path]]:
    """(file, folder its name is relative to) for a picture or all pictures in a folder.

    Raises:
        DataError: there is no such file, or no picture in the folder.
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not found:
            raise DataError(
                f"{path}: no pictures in this folder", hint=f"looked for {' '.join(SUFFIXES)}"
            )
        yield from ((file, path) for file in found)
    elif path.exists():
        yield path, path.parent
    else:
        raise DataError(f"{path}: there is no such file or folder")


def output_name(path: Path, root: Path, scale: int, request: Request) -> Path:
    """photo.jpg -> <out>/photo_x2.png, in the same sub-folder."""
    inside = path.relative_to(root).parent
    return request.out / inside / f"{path.stem}_x{scale}.{request.format}"
