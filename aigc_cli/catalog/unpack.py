"""Unpack a zip or tar that a stranger may have made: every name and size is looked at first."""

from __future__ import annotations

import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aigc_cli.catalog.fetch import BLOCK, write
from aigc_cli.errors import DataError

RATIO = 200  # bytes that a byte of an archive may become, when nothing else limits them
LEAST = 1 << 30


@dataclass(frozen=True)
class Member:
    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path, folder: Path, place: Callable[[str], str | None], *, most: int | None = None
) -> dict[str, Path]:
    """Write each member for which `place` knows a path below `folder`; its name and where it is.

    `most` bounds the bytes together. Nothing is written before all names and sizes are known to be
    harmless; a member longer than it says ends the work.

    Raises:
        DataError: it is no archive, or damaged; a name leads out of the folder, a member is a link
            or device, or it unpacks to too much.
    """
    limit = most if most is not None else max(LEAST, RATIO * archive.stat().st_size)
    with _members(archive) as members:
        wanted = [(member, path) for member in members if (path := place(member.name))]
        total = sum(member.size for member, _ in wanted)
        if total > limit:
            raise DataError(
                f"{archive.name} unpacks to {total:,} bytes, more than the {limit:,} expected:"
                " nothing was unpacked"
            )
        found = {}
        for member, path in wanted:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_member(archive, member, target)
            found[member.name] = target
    return found


def _write_member(archive: Path, member: Member, target: Path) -> None:
    left = member.size
    try:
        with member.open() as source, target.open("wb") as file:
            while block := source.read(BLOCK):
                left -= len(block)
                if left < 0:
                    raise DataError(f"{archive.name}: {member.name!r} is longer than it says")
                write(file, block)
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise DataError(f"{archive.name}: {member.name!r} is damaged ({error})") from error
    if left:
        raise DataError(f"{archive.name}: {member.name!r} is shorter than it says")


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """The plain files in an archive, all of them with harmless names."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as opened:
                yield [m for info in opened.infolist() if (m := _of_zip(archive, opened, info))]
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                yield [m for info in tar if (m := _of_tar(archive, tar, info))]
        else:
            raise DataError(f"{archive.name} is no zip or tar")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive.name} is damaged ({error})") from error


def _of_zip(archive: Path, opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member | None:
    # The name as it stands in the file: zipfile itself cuts it at NUL and turns its slashes.
    name = _harmless(archive, info.orig_filename)
    kind = info.external_attr >> 28
    if kind == 0o12:
        raise DataError(f"{archive.name}: {name!r} is a link: nothing was unpacked")
    if info.is_dir() or _is_clutter(name):
        return None
    return Member(name, info.file_size, lambda: opened.open(info))


def _of_tar(archive: Path, tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member | None:
    name = _harmless(archive, info.name)
    if info.isdir() or _is_clutter(name):
        return None
    if not info.isreg():
        raise DataError(f"{archive.name}: {name!r} is a link or device: nothing was unpacked")

    def open_() -> IO[bytes]:
        file = tar.extractfile(info)
        assert file is not None
        return file

    return Member(name, info.size, open_)


def _harmless(archive: Path, name: str) -> str:
    parts = name.split("/")
    bad = name.startswith("/") or ".." in parts or "\\" in name or re.match("[A-Za-z]:", name)
    if bad or not name.isprintable():
        raise DataError(
            f"{archive.name} holds {name!r}, which leads out of its folder: nothing was unpacked"
        )
    return name.removeprefix("./")


def _is_clutter(name: str) -> bool:
    """Whether it is one of the copies that macOS adds to a zip."""
    return "__MACOSX" in name.split("/")
