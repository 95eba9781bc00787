"""Files by name in a folder, a zip, shards, a folder in one of these, a list, or a data set of
Hugging Face; the bytes of one at a time.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from aigc_cli.data._hub_files import rows_in
from aigc_cli.data._names import clean_name, folder_labels, is_hidden
from aigc_cli.data._paths import find_path, find_shards, zip_folder
from aigc_cli.data._shards import Shards
from aigc_cli.errors import DataError

MAX_FILES = 1_000_000


def files_in(
    text: str, endings: tuple[str, ...], most: int, what: str, bases: Sequence[Path] = ()
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file with one of these endings, by name; of larger ones `most` + 1
    bytes, so that reading them says so. `what` the files are, for messages.

    Raises:
        DataError: nothing is there, or it is no folder, zip, list or such a file.
    """
    if text.startswith("hf:"):
        yield from rows_in(text.removeprefix("hf:"), endings, most, what, bases)
        return
    if shards := find_shards(text, bases):
        stored = Shards(*shards)
        for number in _stored(stored, endings):
            yield stored.name(number), stored.read(number, most)
        return
    archive, inner = zip_folder(text, bases) or (find_path(text, bases), "")
    suffix = archive.suffix.lower()
    if suffix == ".zip":
        yield from _in_zip(archive, inner, endings, most)
    elif archive.is_dir():
        for path in sorted(archive.rglob("*")):
            name = path.relative_to(archive)
            if path.suffix.lower() not in endings or any(map(is_hidden, name.parts)):
                continue
            if not path.is_dir():  # a link to nothing is one more file that cannot be used
                data = _bytes(path, most) if path.is_file() else b""
                yield clean_name(name.as_posix()), data
    elif suffix in endings:
        yield clean_name(archive.name), _bytes(archive, most)
    elif suffix == ".txt":
        try:
            lines = archive.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{archive}: is no list of files in UTF-8: {error}") from error
        for line in filter(None, map(str.strip, lines)):
            yield clean_name(line), _bytes(archive.parent / line, most)
    else:
        raise DataError(f"{text!r} is no folder, zip, {what}, .txt list of them or shards")


def names_in(text: str, endings: tuple[str, ...], bases: Sequence[Path] = ()) -> list[str]:
    """The names that `files_in` gives, without reading files. Raises as it does."""
    if text.startswith("hf:"):
        return [name for name, _ in files_in(text, endings, 0, "file", bases)]
    if shards := find_shards(text, bases):
        stored = Shards(*shards)
        return [stored.name(number) for number in _stored(stored, endings)]
    archive, inner = zip_folder(text, bases) or (find_path(text, bases), "")
    if archive.suffix.lower() == ".zip":
        return list(map(clean_name, _names(archive, inner, endings)))
    return [name for name, _ in files_in(text, endings, 0, "file", bases)]


def holds_one(source: str, endings: tuple[str, ...], bases: Sequence[Path] = ()) -> bool:
    """Whether a source of data is such a file, or a folder or zip with one; no file is read."""
    if source.startswith("hf:"):
        return False  # what its rows hold is not known before it is fetched
    try:
        if shards := find_shards(source, bases):
            return next(_stored(Shards(*shards), endings), None) is not None
        archive, inner = zip_folder(source, bases) or (find_path(source, bases), "")
        if archive.suffix.lower() == ".zip":
            return any(_names(archive, inner, endings))
    except DataError:
        return False
    if archive.is_dir():
        files = (path for path in archive.rglob("*") if not is_hidden(path.name))
        return any(path.suffix.lower() in endings for path in files)
    return archive.suffix.lower() in endings


def _stored(shards: Shards, endings: tuple[str, ...]) -> Iterator[int]:
    """Numbers of the files in shards that end so."""
    for number, name in enumerate(shards.names()):
        if name.lower().endswith(endings):
            yield number


def _bytes(path: Path, most: int) -> bytes:
    if not path.is_file():
        raise DataError(f"{path}: is no file")
    with path.open("rb") as file:
        return file.read(most + 1)


def _names(archive: Path, inner: str, endings: tuple[str, ...]) -> list[str]:
    """Of the files in a zip, sorted. Raises DataError."""
    try:
        with zipfile.ZipFile(archive) as whole:
            names = sorted(whole.namelist())
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: is no zip that can be read: {error}") from error
    if len(names) > MAX_FILES:
        raise DataError(f"{archive}: holds {len(names):,} files, the limit is {MAX_FILES:,}")
    return [
        name
        for name in names
        if (name.startswith(f"{inner}/") or not inner)
        and name.lower().endswith(endings)
        and not any(map(is_hidden, name.split("/")))
    ]


def _in_zip(
    archive: Path, inner: str, endings: tuple[str, ...], most: int
) -> Iterator[tuple[str, bytes]]:
    names = _names(archive, inner, endings)
    try:
        with zipfile.ZipFile(archive) as whole:
            for name in names:
                with whole.open(name) as file:
                    yield clean_name(name), file.read(most + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: cannot be read: {error}") from error


def classes_of(names: Sequence[str], pattern: str | None) -> list[str] | None:
    """What the one group of `pattern` finds in each name, otherwise the folders; None: no classes.

    Raises:
        DataError: the pattern finds nothing in some name.
    """
    if pattern is None:
        return folder_labels(names)
    found = [re.search(pattern, name) for name in names]
    without = [name for name, match in zip(names, found, strict=True) if match is None]
    if without:
        raise DataError(
            f"data.label_pattern: {pattern!r} finds no class in {without[0]!r} "
            f"({len(without):,} of {len(found):,} names)"
        )
    return [match[1] for match in found if match is not None]


def one_group(pattern: str | None) -> str | None:
    """The pattern. Raises ValueError where it is no regular expression with one group."""
    try:
        if pattern is not None and re.compile(pattern).groups != 1:
            raise ValueError("needs one group, such as '^(\\d)_' for names like 7_anna.wav")
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return pattern
