"""Tunes, one a line of pitches with spaces between: `60 62 64 62`."""

from typing import ClassVar, Literal

import torch
from pydantic import Field

from aigc_cli.data._sources import find_path
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.registry import load_specs

specs = load_specs("tune")


class Config(Section):
    modality: ClassVar[str] = "tune"

    kind: Literal["tunes"]
    """Name of the kind of data."""
    train: Name
    """File of tunes to train on."""
    val: Name | None = None
    """File to validate with; without it every fourth tune of `train` is held out."""
    length: int = Field(8, gt=1)
    """Notes of each tune that are learned."""


def read(path, length):
    """The first `length` notes of each tune. Raises DataError: names the line."""
    tunes = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            notes = [int(word) for word in line.split()]
        except ValueError as error:
            raise DataError(f"{path}:{number}: no tune: {error}") from error
        if len(notes) < length or not all(0 <= note < specs.PITCHES for note in notes):
            raise DataError(f"{path}:{number}: not {length} pitches from 0 to 127")
        tunes.append(torch.tensor(notes[:length]))
    if len(tunes) < 2:
        raise DataError(f"{path}: fewer than two tunes")
    return tunes


class Report:
    """What is in a part; a resumed run compares it."""

    def __init__(self, source, notes):
        self.source, self.notes = source, notes
        self.content = repr([tune.tolist() for tune in notes])

    def as_dict(self):
        lines = {" ".join(map(str, notes.tolist())) for notes in self.notes}
        repeated = len(self.notes) - len(lines)
        return {"source": self.source, "tunes": len(self.notes), "repeated": repeated}


class Tunes:
    def __init__(self, notes):
        self.notes = notes

    def __len__(self):
        return len(self.notes)

    def __getitem__(self, key):
        return {"notes": self.notes[key[0] if isinstance(key, tuple) else key]}


class Data:
    val_batch_size = None

    def __init__(self, config, *, seed=0, bases=(), spec=None):
        length = spec.length if spec else config.length
        held = config.val or config.train
        val = read(find_path(held, bases), length)[:: None if config.val else 4]
        train = []  # `spec`: only what validates is opened
        if spec is None:
            train = read(find_path(config.train, bases), length)
            train = train if config.val else [n for i, n in enumerate(train) if i % 4]
        self.spec = spec or specs.TuneSpec(length)
        self.train, self.val = Tunes(train), Tunes(val)
        self.report = {"data.train": Report(config.train, train)} if spec is None else {}
        self.report["data.val"] = Report(held, val)

    def start_background(self):
        pass

    def stop_background(self):
        pass


def suggest(config, *, bases=()):
    path = find_path(config.train, bases)
    shortest = min(len(line.split()) for line in path.read_text(encoding="utf-8").splitlines())
    return {"length": (shortest, f"The shortest tune has {shortest} notes.")}


def example(folder):
    """Scales up from several notes."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [" ".join(str(60 + start + step) for step in range(8)) for start in range(12)]
    (folder / "scales.tune").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"kind": "tunes", "train": str(folder / "scales.tune")}
