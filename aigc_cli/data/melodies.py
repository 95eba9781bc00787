"""Melodies of a few bars out of MIDI files: the highest voice, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data import midi
from aigc_cli.data._fit import Fit
from aigc_cli.data._images import Sources
from aigc_cli.data._music_files import Pieces
from aigc_cli.data._pieces import split
from aigc_cli.data._stream import Key
from aigc_cli.data.midi import report_of
from aigc_cli.errors import DataError
from aigc_cli.media.events import Events, Music
from aigc_cli.media.melody import PITCH, SIZE, Row, melody, settled
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.markov import Markov
from aigc_cli.specs.melody import MelodySpec


class Config(Section):
    """Pieces, and how melodies are cut from them."""

    modality: ClassVar[str] = "music"

    kind: Literal["melodies"] = "melodies"
    """The highest voice of MIDI files."""
    train: Sources
    """A folder, zip, MIDI file or .txt list of MIDI files to train on, or several."""
    val: Sources = "10%"
    """The same to validate with, or the share of the files of `train` that is held out: `10%` is
    every tenth file, `last 10%` those whose names come last.
    """
    bars: int = Field(2, ge=1, le=64)
    """Bars of a melody; one begins with every bar of a piece."""
    resolution: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 4
    """Steps of a quarter; 4 are sixteenths, 12 also have triplets."""
    beats_per_bar: int = Field(4, ge=1, le=12)
    """Quarters of a bar; files in another meter are skipped."""
    transpose: int = Field(5, ge=0, le=12)
    """Training melodies are moved by up to so many semitones up or down."""


class Melodies:
    """Stretches of `bars` bars, from every bar on, in which a note begins in each half."""

    def __init__(self, pieces: Pieces[Music], spec: MelodySpec, key: str) -> None:
        self.rows: list[Row] = []
        bar = spec.resolution * spec.beats_per_bar
        for music in pieces.music:
            whole = melody(music)
            for first in range(0, len(whole) - spec.steps + 1, bar):
                row = settled(whole[first : first + spec.steps])
                half = spec.steps // 2
                if (row[:half] >= PITCH).any() and (row[half:] >= PITCH).any():
                    self.rows.append(row)
        if not self.rows:
            raise DataError(
                f"{key}: {pieces.source}: no piece has {spec.bars} bars of melody",
                hint="set data.bars lower",
            )

    def __len__(self) -> int:
        return len(self.rows)


class Drawn:
    """Training melodies, each in a key of its own."""

    def __init__(self, melodies: Melodies, transpose: int) -> None:
        self.melodies, self.transpose = melodies, transpose

    def __len__(self) -> int:
        return len(self.melodies)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        index, seed = key
        row = self.melodies.rows[index].copy()
        notes = row >= PITCH
        low, high = int(row[notes].min()) - PITCH, int(row[notes].max()) - PITCH
        moved = int(np.random.default_rng(seed).integers(-self.transpose, self.transpose + 1))
        row[notes] += max(-low, min(moved, 127 - high))
        return {"melody": torch.from_numpy(row)}


class Beside:
    """Validation melodies, and what chains of symbols make of them."""

    def __init__(self, melodies: Melodies, train: Melodies | None) -> None:
        self.melodies = melodies
        orders = {} if train is None else {"unigram": 0, "markov": 2}
        self.chains = {
            name: Markov(train.rows if train else [], SIZE, order) for name, order in orders.items()
        }

    def __len__(self) -> int:
        return len(self.melodies)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.melodies.rows[index]
        costs = {
            name: torch.tensor(-np.log(chain.probabilities(row)).sum())
            for name, chain in self.chains.items()
        }
        return {"melody": torch.from_numpy(row), **costs}


class Data:
    """Training and validation melodies, split by file; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, on the grid of the model.

    Raises:
        DataError: a source is absent, no file in it can be used, or none has a melody.
    """

    val_batch_size = None

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: MelodySpec | None = None,
    ) -> None:
        at = spec or config
        events = Events(at.resolution, at.beats_per_bar)
        parts = split(config.train, config.val, events, bases, val_only=spec is not None)
        self.report = {key: report_of(parts[key], events) for key in sorted(parts)}
        if spec is None:
            tempos = sorted(music.tempo for music in parts["data.train"].music)
            tempo = tempos[len(tempos) // 2]
            spec = MelodySpec(config.bars, config.resolution, config.beats_per_bar, tempo)
        self.spec = spec
        learned = parts.get("data.train")
        train = Melodies(learned, spec, "data.train") if learned else None
        self.val = Beside(Melodies(parts["data.val"], spec, "data.val"), train)
        if train is not None:
            self.train = Drawn(train, config.transpose)

    def start_background(self) -> None:
        """Nothing is prepared ahead."""

    def stop_background(self) -> None:
        """Nothing is prepared ahead."""


def fit(config: Config, *, bases: Sequence[Path] = ()) -> Fit:
    """The meter that most files can be read in."""
    like = midi.Config(train=config.train, resolution=config.resolution)
    return midi.fit(like, bases=bases)


def example(folder: Path) -> dict[str, Any]:
    """Scales in twelve keys."""
    midi.example(folder)
    return {"kind": "melodies", "train": str(folder), "bars": 2}
