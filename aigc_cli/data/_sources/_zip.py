"""The images inside a zip file."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from aigc_cli.data._names import PerProcess, clean_name, is_hidden
from aigc_cli.data._sources._source import Source
from aigc_cli.errors import DataError, did_you_mean
from aigc_cli.media.image import SUFFIXES, Raster, probe_image, read_image

FREE = 4 << 20
"""Bytes that a member may unpack to, whatever is in it."""


class Zip(Source):
    """The images inside a zip file. Nothing is unpacked, and sizes are checked before reading.

    With `inner` only those in that folder, whose names begin there.

    Raises:
        DataError: it is no zip, has no such folder, or no images.
    """

    def __init__(self, path: Path, inner: str = "") -> None:
        self.path = path
        self._archive = PerProcess(partial(zipfile.ZipFile, path))
        try:
            members = self._archive().infolist()
            status = path.stat()
        except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise DataError(f"{path.name}: not a readable zip file ({error})") from error
        named, self.skipped = _pictures(members)
        if not named:
            raise DataError(f"no images in {str(path)!r}")
        if inner:
            named = _within(named, inner, path)
        self.names = [name for name, _ in named]
        self.members = [members[number] for _, number in named]
        self._stamp = f"{path}|{status.st_size}|{status.st_mtime_ns}"

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]

    def fingerprint(self, index: int) -> str:
        member = self.members[index]
        return f"{self._stamp}|{member.header_offset}|{member.CRC}"

    def read(self, index: int) -> Raster:
        content = self.content(index)
        return read_image(content, name=self.names[index], max_pixels=self.max_pixels)

    def content(self, index: int) -> bytes:
        name, member = self.names[index], self.members[index]
        if member.file_size > 8 * self.max_pixels + FREE:  # 16-bit RGBA without compression
            raise DataError(f"{name}: unpacks to {member.file_size / 1e6:,.0f} MB")
        try:
            with self._archive().open(member) as stream:
                if member.file_size > FREE:
                    self._refuse_bomb(stream, name, member.file_size)
                return self._archive().read(member)
        except DataError:
            raise
        except (OSError, zipfile.BadZipFile, EOFError) as error:
            raise DataError(f"{name}: damaged in the zip ({error})") from error
        except (RuntimeError, NotImplementedError) as error:
            raise DataError(f"{name}: encrypted, or of an unknown compression") from error
        except Exception as error:  # zlib, lzma and bz2 each have their own for bad streams
            raise DataError(f"{name}: damaged in the zip ({error})") from error

    def _refuse_bomb(self, stream: BinaryIO, name: str, size: int) -> None:
        """From the first bytes, before the member is unpacked.

        Raises:
            DataError: it is no image, too large a one, or larger than its pixels can need.
        """
        header = probe_image(stream, name=name, max_pixels=self.max_pixels)
        most = FREE + 8 * header.width * header.height
        if size > most:
            raise DataError(
                f"{name}: unpacks to {size / 1e6:,.0f} MB, more than an image of "
                f"{header.width} x {header.height} pixels can need"
            )


def _within(named: list[tuple[str, int]], inner: str, path: Path) -> list[tuple[str, int]]:
    """The images in one folder of a zip, named from there."""
    start = f"{clean_name(inner)}/"
    inside = [(name.removeprefix(start), n) for name, n in named if name.startswith(start)]
    if not inside:
        folders = {str(p) for name, _ in named for p in PurePosixPath(name).parents} - {"."}
        raise DataError(
            f"{path.name} has no images in a folder {inner!r}", hint=did_you_mean(inner, folders)
        )
    return inside


def _pictures(members: Sequence[zipfile.ZipInfo]) -> tuple[list[tuple[str, int]], Counter[str]]:
    """Name and number of each image, in the order of names, and what was skipped; of a name that
    is there twice the later one counts, which unpacking would leave.
    """
    numbers: dict[str, int] = {}
    skipped: Counter[str] = Counter()
    for number, member in enumerate(members):
        name = clean_name(member.filename)
        path = PurePosixPath(name)
        if member.is_dir():
            continue
        if path.suffix.lower() not in SUFFIXES:
            skipped[path.suffix.lower() or "no ending"] += 1
        elif any(map(is_hidden, path.parts)):
            skipped["hidden"] += 1
        else:
            skipped["twice"] += name in numbers
            numbers[name] = number
    return sorted(numbers.items()), +skipped
