"""Images and labels as NumPy arrays in one .npz file, as MedMNIST and Keras give them away."""

from __future__ import annotations

import zipfile
import zlib
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from aigc_cli.data._names import PerProcess
from aigc_cli.data._sources._idx import FREE, MOST, RATIO, Arrays
from aigc_cli.errors import DataError

NAMES = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
"""Arrays of a part: of MedMNIST, of Keras; of a file without parts, `images` and `labels`."""


class Npz(Arrays):
    """Images (N, H, W) or (N, H, W, 1 or 3) of bytes, and labels (N,) or (N, 1) of whole numbers.

    Raises:
        DataError: the file holds no such arrays, not this part, or several and none is named.
    """

    def __init__(self, path: Path, part: str | None) -> None:
        images, labels = _arrays_of(path, part)
        opened = PerProcess(partial(read_array, path, images))
        pixels = opened()
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or pixels.shape[3:] not in (
            (), (1,), (3,),
        ):  # fmt: skip
            raise DataError(
                f"{path.name}: {images} is {pixels.dtype} {pixels.shape}, and no images of bytes "
                "(N, height, width) or (N, height, width, 3)"
            )
        classes = None if labels is None else read_array(path, labels).reshape(-1)
        super().__init__(path, part or path.stem, opened, classes, f"{path.name}: {labels}")
        self._stamp += f"|{images}"


def _arrays_of(path: Path, part: str | None) -> tuple[str, str | None]:
    """The names of the images of a part, and of their labels where there are some."""
    try:
        with zipfile.ZipFile(path) as archive:
            there = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name}: is no .npz file ({error})") from error
    found = {}
    for images, labels in NAMES:
        before, after = images.split("{}")
        for name in there:
            if name.startswith(before) and name.endswith(after) and name != before + after:
                own = name.removeprefix(before).removesuffix(after)
                found[own] = (name, labels.format(own))
    if "images" in there and not found:
        found[""] = ("images", "labels")
    if not found:
        raise DataError(
            f"{path.name}: has no images among its arrays {', '.join(there[:8]) or '(none)'}",
            hint="they are called images, PART_images or x_PART",
        )
    if part is None and len(found) > 1:
        names = ", ".join(f"{path.name}:{name}" for name in found)
        raise DataError(f"{path.name}: has several parts", hint=f"name one of them: {names}")
    if part is not None and part not in found:
        raise DataError(
            f"{path.name}: has no part {part!r}",
            hint=f"there are: {', '.join(filter(None, found))}",
        )
    images, labels = found[part] if part is not None else next(iter(found.values()))
    return images, labels if labels in there else None


def read_array(path: Path, name: str) -> np.ndarray[Any, Any]:
    """One array, which holds numbers and no objects; its size is looked at before it is unpacked.

    Raises:
        DataError: it cannot be read, is too large, or holds objects, which could be programs.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            info = archive.getinfo(f"{name}.npy")
            version = npy.read_magic(file)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = read(file)
            size = prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise DataError(f"{path.name}: {name} holds objects of Python, and is not opened")
            if size > MOST:
                limit = f"{MOST >> 20:,} MB"
                raise DataError(
                    f"{path.name}: {name} has {size / 1e6:,.0f} MB, the limit is {limit}"
                )
            if size > FREE and size > RATIO * info.compress_size:
                raise DataError(f"{path.name}: {name} unpacks to more than {RATIO} times its size")
            if size != info.file_size - file.tell():
                raise DataError(f"{path.name}: {name} is shorter or longer than it says")
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            return np.asarray(npy.read_array(file, allow_pickle=False))
    except (OSError, ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name}: {name} cannot be read ({error})") from error
