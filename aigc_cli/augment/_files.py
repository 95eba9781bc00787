"""What audio and music share: items that are files of a class each, kept as the bytes they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from aigc_cli.augment import _augmentation
from aigc_cli.augment._augmentation import (
    Draw,
    Operation,
    Varied,
)
from aigc_cli.augment._folders import InFolders
from aigc_cli.data._named_files import classes_of, one_group
from aigc_cli.errors import DataError
from aigc_cli.modalities._modality import Task
from aigc_cli.recipe.load import Recipe, section_from_texts
from aigc_cli.recipe.sections import Section


class Reading(Section):
    """How a source that is no recipe is read."""

    label_pattern: str | None = Field(None)
    """Regular expression with one group, the class, that is searched in the name of each file;
    without it the folders are the classes.
    """

    @field_validator("label_pattern")
    @classmethod
    def _has_a_group(cls, value: str | None) -> str | None:
        return one_group(value)


@dataclass(frozen=True, eq=False)
class Item:
    """A file: its bytes, the ending that says their format, and what is in them."""

    data: bytes
    ending: str
    value: Any


class FileItems(_augmentation.Part):
    """Files held in memory as they are stored, by name; those in `bad` cannot be used."""

    def __init__(
        self,
        text: str,
        files: Sequence[tuple[str, bytes]],
        labels: Sequence[str] | None,
        augmentation: Augmentation,
        bad: Mapping[str, str],
    ) -> None:
        self.text, self.files, self._labels = text, files, labels
        self.augmentation, self.bad = augmentation, bad

    def __len__(self) -> int:
        return len(self.files)

    def name(self, number: int) -> str:
        return self.files[number][0]

    def labels(self) -> Sequence[str] | None:
        return self._labels

    def read(self, number: int) -> Item:
        name, data = self.files[number]
        if not data:
            raise DataError(f"{name}: is empty, or a link to a file that is not there")
        if name in self.bad:
            raise DataError(f"{name}: {self.bad[name]}")
        ending = PurePosixPath(name.partition(":")[0]).suffix.lower()
        return Item(data, ending, self.augmentation.decode(data, name))

    def digest(self, thing: Item) -> str:
        return blake2b(self.augmentation.essence(thing.value), digest_size=16).hexdigest()


class Augmentation(InFolders):
    """Items that are files. A varied one is encoded and read again, so that what is told of it is
    true of its file.
    """

    ending: str
    """Of files that are made."""

    @abstractmethod
    def files(self, source: str, bases: Sequence[Path]) -> list[tuple[str, bytes]]:
        """Name and bytes of each file of a source. Raises DataError: nothing is there."""

    @abstractmethod
    def decode(self, data: bytes, name: str) -> Any:
        """What is in a file. Raises DataError: it cannot be used; names it."""

    @abstractmethod
    def encode(self, value: Any) -> bytes:
        """A file of `ending`."""

    @abstractmethod
    def essence(self, value: Any) -> bytes:
        """By which it is known again in another file."""

    @abstractmethod
    def changed(self, value: Any, draw: Draw, done: list[Operation]) -> Any:
        """Varied by the classical operations, which are added to `done`."""

    def unusable(self, files: Sequence[tuple[str, bytes]]) -> Mapping[str, str]:
        """Files that must not be decoded in this process, and why."""
        return {}

    def open(self, source: str, key: str, data: Sequence[str]) -> FileItems:
        asked = section_from_texts(Reading, data, "data")
        try:
            return self._items(source, asked.label_pattern, ())
        except DataError as error:
            raise DataError(f"{key}: {error.message}", hint=error.hint) from error

    def _items(self, source: str, pattern: str | None, bases: Sequence[Path]) -> FileItems:
        files = self.files(source, bases)
        if not files:
            raise DataError(f"{source!r} holds no such files")
        labels = classes_of([name for name, _ in files], pattern)
        return FileItems(source, files, labels, self, self.unusable(files))

    def open_recipe(self, recipe: Recipe) -> Mapping[str, FileItems]:
        raise DataError(
            f"recipe '{recipe.name}': data of kind '{recipe.kind}' is not augmented as a recipe",
            hint="name the files themselves, and how their classes are found: "
            "data.label_pattern=REGULAR-EXPRESSION",
        )

    def vary(self, thing: Item, part: Any, number: int, peers: Sequence[int], draw: Draw) -> Varied:
        done: list[Operation] = []
        data = self.encode(self.changed(thing.value, draw, done))
        return Varied(Item(data, self.ending, self.decode(data, f"item {number}")), done)

    def file_of(self, thing: Item) -> tuple[bytes, str]:
        return thing.data, thing.ending

    def given(self, thing: Item, label: str, task: Task) -> Any:
        raise DataError("models that answer are not for such files")

    def read_back(self, out: Path, line: Mapping[str, Any]) -> Item:
        path = out / line["path"]
        data = path.read_bytes()
        return Item(data, path.suffix, self.decode(data, line["path"]))


def unit(values: np.ndarray) -> Tensor:
    """As a vector of length 1."""
    found = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).flatten()
    return found / found.norm().clamp(min=1e-9)
