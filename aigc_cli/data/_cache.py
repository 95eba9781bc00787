"""Prepared images on disk, so that nothing is decoded or reduced twice.

All images of a set that were prepared in one way lie in one file, a `Pack`, whose name is the
digest of everything they depend on. A row counts only when its checksum fits: a row that was cut
off, lost in a power failure or never written is made again, and two processes may write the same
row because they write the same bytes.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import sys
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError
from aigc_cli.media._positions import read_at, write_at

VERSION = 1  # raise it when the same source would be prepared into other numbers
_AT_ONCE = 1 << 12  # equal parts of a digest
LIMIT = 64 << 30  # bytes; the packs that were not opened for longest go first

log = logging.getLogger(__name__)

Bytes = NDArray[np.uint8]


# Held while a row is made. Two threads that decode at once take the interpreter from each other
# hundreds of times an image; on a busy machine that makes both many times slower than in turns.
_making = threading.RLock()  # entered twice: reducing an image needs the whole one


def _renew_lock() -> None:
    """A worker must not inherit a lock that a thread of its parent held."""
    global _making
    _making = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def cache_folder(setting: str) -> Path | None:
    """Folder for the setting `auto`, `off` or a path; None when nothing is to be kept.

    auto is $AIGC_CACHE, or aigc in $XDG_CACHE_HOME, or ~/.cache/aigc; where that cannot be written
    the run does without and says so.

    Raises:
        DataError: a folder that was asked for by name cannot be written.
    """
    if setting == "off":
        return None
    try:
        path = _automatic() if setting == "auto" else Path(setting).expanduser()
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path.absolute()
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        if setting != "auto":
            raise DataError(f"data.cache: cannot write in {setting!r} ({error})") from error
        log.warning("prepared images are not kept after this run: %s", error)
        return None


def _automatic() -> Path:
    if chosen := os.environ.get("AIGC_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "aigc"
    return Path.home() / ".cache" / "aigc"


def digest(parts: Iterable[object]) -> str:
    """Name for whatever depends on `parts` and on nothing else; one object that comes many times
    in a row, as the size of a million images, becomes text once.
    """
    state = hashlib.blake2b(digest_size=16)
    for _, run in groupby(parts, key=id):  # one object, for 1 and True are equal
        part, *same = run
        text = str(part).encode(errors="surrogateescape")
        text = len(text).to_bytes(8, "little") + text
        left = 1 + len(same)
        while left > 0:
            state.update(text * min(left, _AT_ONCE))
            left -= _AT_ONCE
    return state.hexdigest()


class Pack:
    """Arrays of bytes with known shapes in one file, each made when it is first asked for.

    Layout: one CRC-32 for each row, then the rows, each at a multiple of 64 bytes. The file is
    created at its full length and takes space only where rows were written. Without a folder it is
    a temporary file that ends with the process.

    Raises:
        DataError: there is nowhere to write, not even a temporary file.
    """

    def __init__(
        self, folder: Path | None, key: Iterable[object], shapes: Sequence[tuple[int, ...]]
    ) -> None:
        self.shapes = list(shapes)
        runs = [(_aligned(prod(shape)), len(list(same))) for shape, same in groupby(self.shapes)]
        sizes = np.repeat(*np.array(runs, np.int64).reshape(-1, 2).T)
        ends = np.cumsum(np.append(_aligned(4 * len(self.shapes)), sizes))
        self._starts, self._size = ends[:-1], int(ends[-1])
        name = digest([VERSION, *key, *self.shapes])
        self._path = folder / "pictures" / f"{name}.pack" if folder else None
        self._open()

    def _open(self) -> None:
        try:
            self._file = self._create()
            weakref.finalize(self, os.close, self._file)
            os.ftruncate(self._file, self._size)  # changes nothing when the file is complete
        except OSError as error:
            raise DataError(
                f"nowhere to keep {self._size / 1e6:.0f} MB of prepared images ({error})",
                hint="set data.cache=FOLDER to a folder with space",
            ) from error
        if hasattr(os, "posix_fadvise"):  # reading ahead in holes costs more than all else here
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
        content = mmap.mmap(self._file, self._size, access=mmap.ACCESS_READ)
        self._map = np.frombuffer(content, np.uint8)
        self._trusted = bytearray(len(self.shapes))
        self._full = False

    def _create(self) -> int:
        if self._path is None:
            with tempfile.TemporaryFile() as temporary:
                return os.dup(temporary.fileno())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        os.utime(self._path)
        trim(self._path.parent, keep=self._path)
        return file

    def __len__(self) -> int:
        return len(self.shapes)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("shapes", "_starts", "_size", "_path")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def get(self, index: int, make: Callable[[], Bytes]) -> Bytes:
        """Row `index`, read-only and lying in the file; `make()` is called when it is not there.

        Safe to call from several threads and processes.
        """
        if not self._trusted[index]:
            with _making:
                if not self._is_whole(index):
                    row = make()
                    if not self._write(index, row):
                        return row
            self._trusted[index] = True
        return self._row(index)

    def _is_whole(self, index: int) -> bool:
        """Looks into the map only where something was written: elsewhere a full disk in memory
        (tmpfs) has no page for it, and would end the process with SIGBUS.
        """
        found = int.from_bytes(read_at(self._file, 4, 4 * index), sys.byteorder)
        return found != 0 and found == _checksum(self._row(index))

    def _row(self, index: int) -> Bytes:
        start, shape = int(self._starts[index]), self.shapes[index]
        return self._map[start : start + prod(shape)].reshape(shape)

    def _write(self, index: int, row: Bytes) -> bool:
        if row.shape != self.shapes[index] or row.dtype != np.uint8:
            raise ValueError(f"row {index} is {row.dtype} {row.shape}, not {self.shapes[index]}")
        row = np.ascontiguousarray(row)
        try:
            write_at(self._file, row.data.cast("B"), int(self._starts[index]))
            write_at(self._file, _checksum(row).to_bytes(4, sys.byteorder), 4 * index)
        except OSError as error:
            if not self._full:
                log.warning("no space for prepared images, so they are made again: %s", error)
            self._full = True
            return False
        return True


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def _checksum(row: Bytes) -> int:
    """CRC-32 that is never 0, the checksum of a row that was never written."""
    return zlib.crc32(row.data) | 1


def trim(folder: Path, keep: Path) -> None:
    """Delete the files with the ending of `keep` that were opened longest ago until the rest fits
    LIMIT.

    A file in use by another process stays readable for it: it only loses its name.
    """
    packs = []
    for path in folder.glob(f"*{keep.suffix}"):
        try:
            status = path.stat()
        except OSError:  # deleted by another process just now
            continue
        packs.append((status.st_mtime, 512 * status.st_blocks, path))
    total = sum(size for _, size, _ in packs)
    for _, size, path in sorted(packs):
        if total > LIMIT and path != keep:
            path.unlink(missing_ok=True)
            total -= size


class Background:
    """A thread that prepares items in a given order while something else runs.

    It is a daemon: a process that ends does not wait for it. An item that fails ends the thread
    silently, because whoever needs that item gets the same error with a place to put it.
    """

    def __init__(self, prepare: Callable[[int], object], order: Iterable[int]) -> None:
        self._prepare, self._order = prepare, order
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="aigc-cache", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after its present item, and wait for that."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        for index in map(int, self._order):
            if self._stop.is_set():
                return
            try:
                self._prepare(index)
            except Exception as error:
                log.debug("background preparation stopped at item %d: %s", index, error)
                return
