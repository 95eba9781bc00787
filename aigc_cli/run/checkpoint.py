"""Checkpoints: one self-describing file, written atomically, read without trust.

A checkpoint is a dict of plain data and tensors in torch's zip format:

    format, aigc, torch       versions
    step, samples             training iterations done, items seen
    recipe, spec              as plain data: the file alone can sample
    recipe_path               where the recipe was, for its name and for relative data paths
    weights, ema              networks' state; moving average of the generator or None
    base                      where the weights are that adapters left as they were (run/base.py)
    optimizers, scaler        state of every optimizer; of the fp16 loss scaler or None
    best                      {"metric", "value", "step"} or None
    data                      digest of what it learned from
    began                     {"metric", "value"} of a validation batch before the first step
    pending                   what a signal left undone after the step: "validation", "preview"
    features, judge           frozen network to see with; classifier that rewards; or None

Everything random follows from recipe.seed and step (docs/design.md), so no generator state is kept.

Writing: temporary file in the same folder, flush, fsync, rename, fsync of the folder. Lightning's
own
save swallows a PermissionError and, with a temporary folder on another file system, destroys the
previous file when the disk is full. Reading: every record's CRC-32 is compared first, which finds
truncation and flipped bits, then `torch.load(weights_only=True)`, which cannot run code.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import uuid
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aigc_cli.errors import CheckpointError, DiskFullError, OutputError

FORMAT = 1
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class _Part(BaseModel):
    """A part of a checkpoint: exact types, and whatever newer versions add."""

    model_config = ConfigDict(strict=True, extra="allow", arbitrary_types_allowed=True)


class Best(_Part):
    """The best validation."""

    metric: str
    value: float
    step: int = Field(ge=0)


class Began(_Part):
    """The first validation batch before the first step."""

    metric: str
    value: float


class Base(_Part):
    """The model that has the weights which are not here."""

    source: str
    """As `init_from` named it."""
    path: str
    """Absolute."""
    near: str
    """From the folder in which the training started."""
    digest: str
    """Of its weights, `digest_of`."""
    tensors: dict[str, list[int]]
    """Shapes of what is taken from it, by name."""


class Group(_Part):
    """Weights of an optimizer that share their settings."""

    params: list[int]
    lr: float


class OptimizerState(_Part):
    """`state_dict()` of an optimizer."""

    state: dict[int, dict[str, Any]]
    param_groups: list[Group] = Field(min_length=1)


class Checkpoint(_Part):
    """What a checkpoint holds; see above."""

    format: int
    step: int = Field(ge=0)
    samples: int = Field(0, ge=0)
    recipe: dict[str, Any]
    recipe_path: str | None
    spec: dict[str, Any]
    data: str | None = None
    weights: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor] | None
    base: Base | None = None
    optimizers: list[OptimizerState]
    scaler: dict[str, Any] | None
    best: Best | None
    began: Began | None = None
    pending: list[Literal["validation", "preview"]] = Field(default_factory=list)


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path`; a kill or an error at any moment leaves the previous file as it was.

    Raises:
        DiskFullError: no space; names the bytes that are free.
        OutputError: the folder cannot be written.
        TypeError: `state` holds something that a safe load would refuse; names it.
    """
    _require_plain(state, "checkpoint")
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    try:
        with temporary.open("xb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__ or error.__context__
        if not isinstance(cause, OSError):
            raise
        raise _write_error(cause, path) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def link_checkpoint(source: Path, path: Path) -> None:
    """Make `path` the same file as `source`, atomically and without writing the data again."""
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name}")
    try:
        os.link(source, temporary)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError:  # a file system without hard links
        save_checkpoint(load_checkpoint(source), path)
    finally:  # to rename one of two links to the same file does nothing and leaves both
        with suppress(OSError):
            temporary.unlink()


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint of ours, on the CPU.

    Raises:
        CheckpointError: missing, truncated, damaged, not ours, from a newer version, or unsafe.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint")
    verify_checkpoint(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: refused: the file asks to run code or holds more than tensors and plain data",
            hint="only load checkpoints written by `aigc train`",
            code="checkpoint.unsafe",
        ) from error
    except Exception as error:  # hostile bytes end in errors of every type
        raise CheckpointError(f"{path}: not a checkpoint of aigc, or damaged") from error
    if not isinstance(state, dict) or not {"format", "aigc"} <= state.keys():
        raise CheckpointError(f"{path}: a torch file, but not a checkpoint written by aigc")
    if state["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {state['format']}, this aigc reads format {FORMAT}",
            hint="update aigc",
        )
    _require_whole(state, path)
    state["recipe"] = _renamed(state["recipe"])
    return state


RENAMED = {
    ("data", "unlabelled"): "unlabeled",
    ("model", "length_normalised"): "length_normalized",
    ("model", "normaliser"): "normalizer",
}
"""Keys of recipes in checkpoints of before the spelling of keys was that of torch."""


def _renamed(recipe: dict[str, Any]) -> dict[str, Any]:
    for (section, old), new in RENAMED.items():
        values = recipe.get(section)
        if isinstance(values, dict) and old in values:
            recipe[section] = {new if key == old else key: v for key, v in values.items()}
    return recipe


def find_usable(*paths: Path) -> Path:
    """The first of the checkpoints that is whole.

    Raises:
        CheckpointError: none is; says what is wrong with the first one that exists.
    """
    first: CheckpointError | None = None
    for path in paths:
        if path.exists():
            try:
                verify_checkpoint(path)
            except CheckpointError as error:
                first = first or error
            else:
                return path
    raise first or CheckpointError(f"{paths[0]}: there is no such checkpoint")


def verify_checkpoint(path: Path) -> None:
    """Compare every record with its CRC-32.

    Raises:
        CheckpointError: the file is empty, truncated, changed, compressed, no torch file, or cannot
            be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            damaged = _damaged_record(file, path, size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    if damaged:
        raise CheckpointError(
            f"{path}: damaged: record '{damaged}' does not match its checksum",
            hint="use another checkpoint of the run, or a copy of this one",
        )


def _damaged_record(file: BinaryIO, path: Path, size: int) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            if all(info.compress_type == zipfile.ZIP_STORED for info in records):
                return archive.testzip()
    except Exception as error:  # zipfile meets damaged bytes with errors of every type
        what = "empty file" if size == 0 else f"truncated or not a checkpoint ({size:,} bytes)"
        raise CheckpointError(f"{path}: {what}") from error
    raise CheckpointError(f"{path}: refused: compressed records, which torch does not write")


def file_digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, which identifies a checkpoint in samples.json and
    results.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _require_whole(state: dict[str, Any], path: Path) -> None:
    """Every field is there, and is what `Checkpoint` says."""
    try:
        Checkpoint.model_validate(state)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        absent = first["type"] == "missing"
        what = "is absent" if absent else f"is {_short(first['input'])}: {first['msg'].lower()}"
        raise CheckpointError(
            f"{path}: not a checkpoint written by aigc: '{place}' {what}",
            hint="use another checkpoint of the run, or a copy of this one",
        ) from error


def _short(value: Any) -> str:
    """A value for a sentence: what it is where it would be long."""
    plain = value is None or isinstance(value, (bool, int, float, str))
    return repr(value)[:60] if plain else f"a {type(value).__name__}"


def _require_plain(value: Any, place: str) -> None:
    """Only exact types that `weights_only=True` reads back; a subclass of str is already too
    much.
    """
    if type(value) is dict:
        for key, item in value.items():
            _require_plain(key, f"a key of {place}")
            _require_plain(item, f"{place}[{key!r}]")
    elif type(value) in (list, tuple):
        for number, item in enumerate(value):
            _require_plain(item, f"{place}[{number}]")
    elif not (value is None or type(value) in (str, int, float, bool, torch.Tensor)):
        raise TypeError(f"{place} is a {type(value).__name__}, which a safe load refuses")


def _write_error(error: OSError, path: Path) -> DiskFullError | OutputError:
    if error.errno in NO_SPACE:
        stat = os.statvfs(path.parent)
        free = stat.f_bavail * stat.f_frsize
        return DiskFullError(
            f"{path}: cannot write the checkpoint: {error.strerror} ({free / 1e6:,.1f} MB free)",
            hint="free some space and continue with --resume; the previous checkpoint is intact",
        )
    return OutputError(f"{path}: cannot be written: {error.strerror}")


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
