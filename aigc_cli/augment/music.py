"""Pieces of music: in another key, at another tempo, played otherwise, without a voice; as MIDI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field
from torch import Tensor

from aigc_cli.augment import _files
from aigc_cli.augment._augmentation import Draw, Operation
from aigc_cli.augment._files import Item, unit
from aigc_cli.data._music_files import files_in
from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.media.midi import DRUMS, TICKS, Midi, midi_bytes
from aigc_cli.media.parsing import parse, read_music
from aigc_cli.recipe.sections import Section

BINS = 512  # into which steps of a melody are hashed, to compare pieces


class Options(Section):
    """How much pieces are varied; 0 leaves an operation out."""

    transpose: int = Field(5, ge=0, le=12)
    """Semitones by which a piece is moved up or down at most; drums stay."""
    tempo: float = Field(0.15, ge=0, lt=1)
    """Part by which it becomes slower or faster at most."""
    velocity: float = Field(0.1, ge=0, le=1)
    """Part by which the whole is played louder or softer at most, and each note by half of it."""
    drop_voice: float = Field(0.2, ge=0, le=1)
    """How often one of several voices (programs) is left out."""


class Augmentation(_files.Augmentation):
    """Pieces of music."""

    Options = Options
    yardstick = "yardstick_music"
    ending = ".mid"

    def files(self, source: str, bases: Sequence[Path]) -> list[tuple[str, bytes]]:
        return list(files_in(source, bases))

    def unusable(self, files: Sequence[tuple[str, bytes]]) -> Mapping[str, str]:
        """Each is parsed once by a process that may end of it."""
        return {
            name: found.message.removeprefix(f"{name}: ")
            for name, found in parse(files)
            if isinstance(found, DataError)
        }

    def decode(self, data: bytes, name: str) -> Midi:
        return read_music(data, name)

    def encode(self, value: Midi) -> bytes:
        meter = value.meters[0] if value.meters else (4, 4)
        return midi_bytes(value.notes, value.tempo, meter, ticks=value.ticks)

    def essence(self, value: Midi) -> bytes:
        """The notes in parts of a quarter, whoever plays them how loud."""
        times = np.round(value.notes[:, :2] * 96 / value.ticks).astype(np.int64)
        return np.hstack([times, value.notes[:, 2:4]]).tobytes()

    def changed(self, value: Midi, draw: Draw, done: list[Operation]) -> Midi:
        o: Any = self.options
        notes, tempo = value.notes.copy(), value.tempo
        programs = sorted({int(program) for program in notes[:, 3]})
        if o.drop_voice and len(programs) > 1 and draw.happens(o.drop_voice):
            gone = programs[draw.below(len(programs))]
            notes = notes[notes[:, 3] != gone]
            done.append({"name": "drop_voice", "program": gone})
        if o.transpose:
            by = draw.below(2 * o.transpose + 1) - o.transpose
            notes[:, 2], by = transposed(notes, by)
            done.append({"name": "transpose", "semitones": by})
        if o.tempo:
            factor = float(np.exp(draw.uniform(-1, 1) * np.log1p(o.tempo)))
            tempo = float(np.clip(tempo * factor, 4, 1000))
            done.append({"name": "tempo", "factor": round(factor, 4)})
        if o.velocity:
            louder = 1 + draw.uniform(-o.velocity, o.velocity)
            each = np.array([draw.uniform(-0.5, 0.5) * o.velocity for _ in range(len(notes))])
            notes[:, 4] = np.clip(np.round(notes[:, 4] * (louder + each)), 1, 127)
            done.append({"name": "velocity", "factor": round(louder, 4)})
        return replace(value, notes=notes, tempo=tempo)

    def thing_of_made(self, made: Music) -> Item:
        data = midi_bytes(made.as_midi(), made.tempo, (made.beats_per_bar, 4))
        if not len(made.notes):  # no reader takes it, and `unfit` drops it
            return Item(data, self.ending, Midi(TICKS, made.as_midi(), made.tempo, ()))
        return Item(data, self.ending, read_music(data, "made"))

    def features(self, thing: Item) -> Tensor:
        """How often each step of pitch and duration follows another, hashed, of length 1."""
        notes = thing.value.notes
        steps = np.diff(notes[:, 2]) * 31 + np.round(notes[1:, 1] * 4 / thing.value.ticks)
        pairs = (steps[1:] * 131 + steps[:-1]).astype(np.int64) % BINS
        return unit(np.bincount(pairs, minlength=BINS))

    def unfit(self, thing: Item) -> str | None:
        return None if len(thing.value.notes) >= 4 else "of fewer than four notes"


def transposed(notes: np.ndarray, by: int) -> tuple[np.ndarray, int]:
    """The pitches moved by so many semitones, or by as many as keep all within 0 to 127."""
    pitched = notes[:, 3] != DRUMS
    if not pitched.any():
        return notes[:, 2], 0
    low, high = int(notes[pitched, 2].min()), int(notes[pitched, 2].max())
    by = int(np.clip(by, -low, 127 - high))
    return notes[:, 2] + np.where(pitched, by, 0), by
