"""Names of files in sources of data, the classes that folders make, and what each process opens for
itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import Any


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that people do not mean: `.x`, and what archives of other
    systems carry along.
    """
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


_UNSAFE = re.compile(r"^[A-Za-z]:|\\|^/|/$|//|(?:^|/)\.{1,2}(?:/|$)")


def clean_name(name: str) -> str:
    """`name` as a harmless relative path: no drive, no root, no `..`, nothing unprintable.

    >>> clean_name("../../etc/pass\\nwd"), clean_name("C:\\\\photos\\\\a.png")
    ('etc/pass?wd', 'photos/a.png')
    """
    if name.isprintable() and not _UNSAFE.search(name):
        return name
    parts = re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/")).split("/")
    safe = "/".join(part for part in parts if part not in ("", ".", ".."))
    return "".join(c if c.isprintable() else "?" for c in safe)


def folder_labels(names: Sequence[str]) -> list[str] | None:
    """Class of each image: the first folder in which the names differ; None when there is none.

    Images in the outermost folder mean that the folders are no classes.

    >>> folder_labels(["train/cat/1.png", "train/dog/1.png"])
    ['cat', 'dog']
    """
    folders = [tuple(name.split("/")[:-1]) for name in names]
    for depth in count():
        here = {parts[depth : depth + 1] for parts in folders}
        if not here or () in here:
            return None
        if len(here) > 1:
            return [parts[depth] for parts in folders]
    raise AssertionError("unreachable")


def beside_folders(names: Sequence[str]) -> list[str]:
    """Images that lie beside folders of others, which makes the folders no classes.

    >>> beside_folders(["p/cat/1.png", "p/dog/1.png", "p/2.png"])
    ['p/2.png']
    """
    parents = [name.rpartition("/")[0] for name in names]
    above = {str(folder) for parent in set(parents) for folder in PurePosixPath(parent).parents}
    return [name for name, parent in zip(names, parents, strict=True) if (parent or ".") in above]


class PerProcess:
    """A resource opened again in each process: neither pickled nor shared across a fork."""

    def __init__(self, open_: Callable[[], Any]) -> None:
        self._open = open_
        self._owner, self._value = 0, None

    def __call__(self) -> Any:
        if self._owner != os.getpid():
            self._owner, self._value = os.getpid(), self._open()
        return self._value

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": self._open, "_owner": 0, "_value": None}
