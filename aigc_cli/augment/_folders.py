"""Items that are files of their own, in folders of their classes."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aigc_cli.augment._augmentation import Augmentation, Written
from aigc_cli.media.files import write_bytes


class InFolders(Augmentation):
    """Writes `train/CLASS/STEM` and an ending, which the toolkit and other libraries read."""

    @abstractmethod
    def file_of(self, thing: Any) -> tuple[bytes, str]:
        """The content of its file, and the ending that says the format."""

    def write(self, out: Path, split: str, stem: str, label: str | None, thing: Any) -> Written:
        folder = split if label is None else f"{split}/{folder_of(label)}"
        data, ending = self.file_of(thing)
        return write_file(out, f"{folder}/{stem}{ending}", data)

    def part_for(self, out: Path, name: str, lines: Iterable[Mapping[str, Any]]) -> str:
        path = out / f"{name}.txt"
        write_bytes(path, "".join(f"{line['path']}\n" for line in lines).encode())
        return str(path)

    def trains_on(self, out: Path) -> Mapping[str, str]:
        return {"train": str(out / "train"), "val": str(out / "val")}


def write_file(
    out: Path, path: str, data: bytes, facts: Mapping[str, Any] = MappingProxyType({})
) -> Written:
    """Write an item as a file of its own, in a folder that is made where it is missing.

    Raises:
        OutputError: it cannot be written. DiskFullError: no space left.
    """
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out / path, data)
    return Written(path, data, facts=facts)


def folder_of(label: str) -> str:
    """A class as the name of a folder.

    >>> folder_of("T-shirt/top"), folder_of("..")
    ('T-shirt_top', '_..')
    """
    safe = re.sub(r"[^\w .()+,&-]", "_", label).rstrip(" ")
    return f"_{safe}" if not safe or safe.startswith(".") else safe
