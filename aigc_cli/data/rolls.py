"""Piano rolls of pieces with a class each: a genre, an emotion, a composer."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from aigc_cli.data import midi
from aigc_cli.data._data import Prepared
from aigc_cli.data._music_files import PieceConfig, Pieces, PieceSources
from aigc_cli.data._named_files import classes_of, files_in, one_group
from aigc_cli.data._paths import find_path, zip_folder
from aigc_cli.data._pieces import split, suggest_meter
from aigc_cli.data._stream import Key
from aigc_cli.data.midi import read_pieces, report_of
from aigc_cli.errors import DataError
from aigc_cli.media.events import Events, Music
from aigc_cli.media.roll import stretches
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.rolls import RollSpec

T = TypeVar("T")
MOST = 16_000_000  # bytes of a table of classes


class Config(PieceConfig):
    """Pieces, their classes, and how they are cut."""

    kind: Literal["rolls"] = "rolls"
    """MIDI files with a class each."""
    generated: PieceSources | None = None
    """More pieces that train, such as those of a model, with classes found in the same way; without
    them the same recipe says what they gain.
    """
    bars: int = Field(4, ge=1, le=64)
    """Bars of a stretch; shorter pieces are filled with silence."""
    label_pattern: str | None = None
    """Regular expression with one group, the class, that is searched in the name of each file;
    without it and `label_table` the folders are the classes.
    """
    label_table: Name | None = None
    """CSV file with a column `file` and `label_columns`, also in a zip: set.zip/labels.csv."""
    label_columns: tuple[Name, ...] = ("label",)
    """Columns that together are the class."""
    transpose: int = Field(5, ge=0, le=12)
    """Training stretches are moved by up to so many semitones up or down."""
    balance: bool = False
    """Whether the stretches of rarer classes are drawn as often as those of the most frequent one.
    """

    _one_group = field_validator("label_pattern")(one_group)


def table_classes(config: Config, bases: Sequence[Path]) -> dict[str, str]:
    """The class of each file in `label_table`.

    Raises:
        DataError: it is no CSV with those columns.
    """
    text = str(config.label_table)
    inside = zip_folder(text, bases)
    if inside is None:
        data = find_path(text, bases).read_bytes()
    else:
        found = files_in(str(inside[0]), (".csv",), MOST, "table")
        data = next((data for name, data in found if name == inside[1]), b"")
    try:
        rows = list(csv.DictReader(io.StringIO(data[:MOST].decode("utf-8-sig"))))
        return {row["file"]: " ".join(row[name] for name in config.label_columns) for row in rows}
    except (KeyError, TypeError, UnicodeDecodeError, csv.Error) as error:
        wanted = ", ".join(("file", *config.label_columns))
        raise DataError(f"data.label_table: {text} is no CSV with columns {wanted}") from error


class Stretches:
    """The stretches of pieces, which follow each other, with their classes."""

    def __init__(
        self, pieces: Pieces[Music], labels: Sequence[str], spec: RollSpec, key: str
    ) -> None:
        self.rolls: list[np.ndarray] = []
        self.labels: list[int] = []
        if unknown := sorted(set(labels) - set(spec.labels)):
            raise DataError(f"{key}: has class {unknown[0]!r}, which is not trained with")
        for music, label in zip(pieces.music, labels, strict=True):
            parts = stretches(music, spec.steps)
            self.rolls += parts
            self.labels += [spec.labels.index(label)] * len(parts)

    def __len__(self) -> int:
        return len(self.rolls)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        roll = torch.from_numpy(self.rolls[index]).float()
        return {"roll": roll, "label": torch.tensor(self.labels[index])}


def balanced(things: Sequence[T], labels: Sequence[int]) -> list[T]:
    """As many of each label: those of rarer ones again from the first on."""
    kinds = {
        label: [thing for thing, own in zip(things, labels, strict=True) if own == label]
        for label in sorted(set(labels))
    }
    most = max(map(len, kinds.values()))
    return [kind[n % len(kind)] for kind in kinds.values() for n in range(most)]


class Drawn:
    """Training stretches, each in a key of its own."""

    def __init__(self, parts: Sequence[Stretches], transpose: int, *, balance: bool) -> None:
        self.places = [(part, index) for part in parts for index in range(len(part))]
        if balance:
            self.places = balanced(self.places, [part.labels[index] for part, index in self.places])
        self.transpose = transpose

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        (part, index), seed = self.places[key[0]], key[1]
        moved = int(np.random.default_rng(seed).integers(-self.transpose, self.transpose + 1))
        item = part[index]
        roll = torch.roll(item["roll"], moved, 1)
        if moved:  # what leaves the piano does not come in at its other end
            roll[:, slice(0, moved) if moved > 0 else slice(moved, None)] = 0
        return {**item, "roll": roll}


class Data(Prepared):
    """Training and validation stretches, split by file; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, on the grid of the model.

    Raises:
        DataError: a source is absent, no file in it can be used, or pieces have no classes.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: RollSpec | None = None,
    ) -> None:
        at = spec or config
        events = Events(at.resolution, at.beats_per_bar)
        table = None if config.label_table is None else table_classes(config, bases)
        parts = split(config.train, config.val, events, bases, val_only=spec is not None)
        if config.generated is not None and spec is None:
            parts["data.generated"] = read_pieces(
                config.generated, events, bases=bases, key="data.generated"
            )
        self.report = {key: report_of(parts[key], events) for key in sorted(parts)}
        labels = {key: _classes(part, config, table, key) for key, part in parts.items()}
        if spec is None:
            names = tuple(sorted(set(labels["data.train"])))
            shape = config.bars, config.resolution, config.beats_per_bar
            train = Stretches(
                parts["data.train"], labels["data.train"],
                RollSpec(*shape, names, (0.0,) * len(names)), "data.train",
            )  # fmt: skip
            counts = Counter(train.labels)
            shares = tuple(counts[number] / len(train) for number in range(len(names)))
            spec = RollSpec(*shape, names, shares)
            more = [
                Stretches(parts[key], labels[key], spec, key)
                for key in parts.keys() & {"data.generated"}
            ]
            self.train = Drawn([train, *more], config.transpose, balance=config.balance)
        self.spec = spec
        self.val = Stretches(parts["data.val"], labels["data.val"], spec, "data.val")


def _classes(
    pieces: Pieces[Music], config: Config, table: dict[str, str] | None, key: str
) -> list[str]:
    if table is not None and key != "data.generated":
        absent = [name for name in pieces.names if name not in table]
        if absent:
            raise DataError(
                f"data.label_table: has no row for {absent[0]!r} ({len(absent):,} files)"
            )
        return [table[name] for name in pieces.names]
    found = classes_of(pieces.names, config.label_pattern)
    if found is None:
        raise DataError(
            f"{key}: {pieces.source}: pieces have no classes",
            hint="put those of each into a folder of its name, or set data.label_pattern or "
            "data.label_table",
            code="unlabeled",
        )
    return found


suggest = suggest_meter


def example(folder: Path) -> dict[str, Any]:
    """Scales, high and low, a folder for each."""
    for name, root in (("high", 12), ("low", -12)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            file = midi.scale_file(root + number, bars=2, tempo=96)
            (folder / name / f"{number}.mid").write_bytes(file)
    return {"kind": "rolls", "train": str(folder), "val": "25%", "bars": 1}
