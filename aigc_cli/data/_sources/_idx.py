"""Images and labels in MNIST's IDX format."""

from __future__ import annotations

import gzip
import zlib
from functools import partial
from math import prod
from pathlib import Path

import numpy as np

from aigc_cli.data._names import PerProcess
from aigc_cli.data._sources._source import Source
from aigc_cli.errors import DataError
from aigc_cli.media.image import Raster

MOST = 4 << 30
"""Bytes of the largest file that is read; all of them stay in memory."""
RATIO, FREE = 50, 64 << 20
"""A packed file may become so many times as large, or have so many bytes. MNIST becomes 5 times as
large, and deflate makes 1000 of one byte.
"""


class Arrays(Source):
    """Images that lie together in an array, and their labels; `_pixels` opens it in each process.

    Raises:
        DataError: not each image has a label.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        pixels: PerProcess,
        labels: np.ndarray | None,
        labels_name: str | None,
    ) -> None:
        self._name, self._pixels, self._labels = name, pixels, labels
        self._length = len(pixels())
        status = path.stat()
        self._stamp = f"{path}|{status.st_size}|{status.st_mtime_ns}"
        if labels is not None and len(labels) != self._length:
            raise DataError(f"{labels_name} has {len(labels)} labels for {self._length} images")

    def __len__(self) -> int:
        return self._length

    def name(self, index: int) -> str:
        return f"{self._name}/{index:0{len(str(self._length - 1))}d}"

    def fingerprint(self, index: int) -> str:
        return f"{self._stamp}|{index}"

    def labels(self) -> list[str] | None:
        return None if self._labels is None else [str(label) for label in self._labels]

    def read(self, index: int) -> Raster:
        pixels = self._pixels()[index]
        return Raster(pixels=pixels if pixels.ndim == 3 else pixels[:, :, None])


class Idx(Arrays):
    """Gray images in MNIST's IDX format, plain or gzipped, with labels when their file is there.

    LeCun, Cortes and Burges, http://yann.lecun.com/exdb/mnist

    Raises:
        DataError: a header or a length is wrong.
    """

    def __init__(self, path: Path) -> None:
        beside = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        labels = read_idx(beside, 1) if beside != path and beside.is_file() else None
        pixels = PerProcess(partial(read_idx, path, 3))
        super().__init__(path, path.name.split("-idx3")[0], pixels, labels, beside.name)


def read_idx(path: Path, ndim: int) -> np.ndarray:
    """Array of bytes with `ndim` axes from an IDX file.

    Raises:
        DataError: it is no such file, or shorter or longer than it says.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            head = file.read(4 + 4 * ndim)
            if head[:4] != bytes((0, 0, 8, ndim)) or len(head) < 4 + 4 * ndim:
                raise DataError(f"{path.name}: not an IDX file of bytes with {ndim} axes")
            shape = tuple(np.frombuffer(head, ">u4", offset=4).tolist())
            size = prod(shape)
            _refuse_bomb(path, size)
            content = np.empty(size, np.uint8)  # filled in place: nothing is held twice
            length = file.readinto(content.data) if size else 0
            length += len(file.read(1))
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise DataError(f"{path.name}: cannot be read ({error})") from error
    if length != size:
        found = f"{length:,} bytes" if length < size else "more bytes"
        raise DataError(f"{path.name}: holds {found} where its header says {size:,}")
    return content.reshape(shape)


def _refuse_bomb(path: Path, size: int) -> None:
    """Before anything is unpacked or room is made for it.

    Raises:
        DataError: so many bytes as the header says are not in the file, or too many for memory.
    """
    stored = path.stat().st_size
    packed = path.suffix == ".gz"
    if size > MOST:
        limit = f"{MOST >> 20:,} MB"
        raise DataError(f"{path.name}: holds {size / 1e6:,.0f} MB of pixels, the limit is {limit}")
    if packed and size > FREE and size > RATIO * stored:
        raise DataError(
            f"{path.name}: unpacks from {stored / 1e6:,.1f} to {size / 1e6:,.0f} MB, "
            f"more than {RATIO} times its size",
            hint="if that is right, unpack it with gunzip and name the result",
        )
