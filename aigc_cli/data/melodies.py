"""Melodies of a few bars out of MIDI files: the highest voice, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data import midi
from aigc_cli.data._data import Prepared
from aigc_cli.data._music_files import PieceConfig, Pieces
from aigc_cli.data._pieces import Chains, split, suggest_meter
from aigc_cli.data._stream import Key
from aigc_cli.data.midi import report_of
from aigc_cli.errors import DataError
from aigc_cli.media.events import Events, Music
from aigc_cli.media.melody import PITCH, SIZE, Row, from_melody, melody, settled
from aigc_cli.specs.melody import MelodySpec


class Config(PieceConfig):
    """Pieces, and how melodies are cut from them."""

    kind: Literal["melodies"] = "melodies"
    """The highest voice of MIDI files."""
    bars: int = Field(2, ge=1, le=64)
    """Bars of a melody; one begins with every bar of a piece."""
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
        self.melodies, self.chains = melodies, Chains(train.rows if train else [], SIZE, 2)

    def __len__(self) -> int:
        return len(self.melodies)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self.melodies.rows[index]
        return {"melody": torch.from_numpy(row), **self.chains.costs(row)}


class Data(Prepared):
    """Training and validation melodies, split by file; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, on the grid of the model.

    Raises:
        DataError: a source is absent, no file in it can be used, or none has a melody.
    """

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
        self.music = {
            key: [
                from_melody(melody(m), m.resolution, m.beats_per_bar, m.tempo) for m in part.music
            ]
            for key, part in parts.items()
        }
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


suggest = suggest_meter


def example(folder: Path) -> dict[str, Any]:
    """Scales in twelve keys."""
    midi.example(folder)
    return {"kind": "melodies", "train": str(folder), "bars": 2}
