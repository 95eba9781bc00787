"""How pieces come in: read on the grid of a model, some bars of them, as the model takes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data._music_files import LISTED, Pieces
from aigc_cli.data.frames import read_rolls
from aigc_cli.data.midi import read_pieces
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.events import Events, Music, estimate_key
from aigc_cli.media.frames import frames_of, music_of
from aigc_cli.media.merges import Merges
from aigc_cli.modalities._modality import Input, Inputs, Task
from aigc_cli.recipe.sections import Section
from aigc_cli.specs.music import FramesSpec, MusicSpec


class Reading(Section):
    """How pieces are read."""

    start: int = Field(1, gt=0)
    """First bar of an input that is read."""
    bars: int = Field(4, gt=0)
    """So many bars of an input are read, and gone on from."""
    fill: str = Field("", pattern=r"^(\d+-\d+)?$")
    """Bars that are written anew between those around them, as FIRST-LAST, counted as `start`."""


class Form:
    """What a model of music is given, as its spec says: events, frames, or notes (N, 4)."""

    def __init__(self, spec: Any) -> None:
        self.spec = spec
        labels, pairs = (spec.labels, spec.merges) if isinstance(spec, MusicSpec) else ((), ())
        self.events = Events(spec.resolution, spec.beats_per_bar, len(labels))
        self.merges = Merges(self.events, pairs)
        self.what = "tokens" if isinstance(spec, MusicSpec) else "frames"

    def read(self, source: str) -> Pieces[Music]:
        """The pieces of a source. Raises DataError where there is none."""
        spec = self.spec
        if not isinstance(spec, FramesSpec):
            return read_pieces(source, self.events, key="--input")
        found = read_rolls(source, spec.resolution, key="--input")
        music = [
            music_of(roll.frames, spec.resolution, spec.beats_per_bar, roll.tempo)
            for roll in found.music
        ]
        return Pieces(found.source, found.names, music, found.skipped)

    def given(self, music: Music, hole: tuple[int, int] | None) -> Tensor:
        """As `Model.sample` takes it; `hole`: the first bar that is missing, and how many.

        Raises:
            DataError: frames have no holes.
        """
        if isinstance(self.spec, FramesSpec):
            if hole is not None:
                raise DataError(
                    "read.fill: a model of frames only goes on", hint="take one of events"
                )
            frames = frames_of(music)[: music.bars * music.steps_per_bar]
            return torch.from_numpy(frames.astype(np.uint8))
        if hole is not None:
            return torch.tensor(self.merges.merged(self.events.with_hole(music, *hole)))
        return torch.tensor(self.merges.merged(self.events.row(music)))

    def thing(self, given: Tensor) -> Music:
        """The piece that would be given so."""
        spec = self.spec
        if isinstance(spec, FramesSpec):
            frames = given.bool().numpy()
            return music_of(frames, spec.resolution, spec.beats_per_bar, spec.tempo)
        if isinstance(spec, MusicSpec):
            return self.events.decode(self.merges.split(given.tolist()))
        notes, steps = given.numpy(), self.events.steps_per_bar
        bars = int(notes[:, 0].max(initial=0)) // steps + 1
        return Music(notes, spec.resolution, spec.beats_per_bar, bars, 120, estimate_key(notes))


class Primes(Inputs):
    """Some bars of pieces, all checked."""

    def __init__(self, names: Sequence[str], music: Sequence[Music], task: Task) -> None:
        form, reading = Form(task.model.spec), task.reading
        assert isinstance(reading, Reading)
        self.names, bars = names, reading.bars
        hole = _hole(reading)
        short = [
            f"{name} has {piece.bars}"
            for name, piece in zip(names, music, strict=True)
            if piece.bars < reading.start or (hole and piece.bars < reading.start + sum(hole) - 1)
        ]
        if short:
            asked = f"read.fill={reading.fill}" if hole else f"read.start={reading.start}"
            raise DataError(f"{asked} is outside the piece: {'; '.join(short[:LISTED])} bars")
        self.music = [piece.bars_from(reading.start - 1, bars) for piece in music]
        self.given = [form.given(piece, hole) for piece in self.music]
        long = [
            f"{name} has {len(row):,} {form.what} in its {piece.bars} bars from {reading.start} on"
            for name, row, piece in zip(names, self.given, self.music, strict=True)
            if len(row) > form.spec.context
        ]
        if long:
            raise DataError(
                f"{'; '.join(long[:LISTED])}, and the model reads at most {form.spec.context:,}",
                hint=f"take fewer with read.bars={max(bars // 2, 1)}, or train with a larger "
                "data.context",
            )
        self.stems = _stems(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        return self.names[number]

    def __getitem__(self, number: int) -> Input:
        return Input(
            self.names[number], self.music[number], self.given[number], self.stems[number]
        )  # fmt: skip


class WholePieces(Primes):
    """Whole pieces, given as their notes (N, 4) on the grid of the model."""

    def __init__(self, names: Sequence[str], music: Sequence[Music]) -> None:
        self.names, self.music, self.stems = names, list(music), _stems(names)
        self.given = [torch.from_numpy(piece.notes) for piece in music]


def _stems(names: Sequence[str]) -> list[str]:
    """What files of answers are called: inputs that differ in their ending alone are told apart."""
    twice = Counter(Path(name).with_suffix("") for name in names)
    return [
        str(path if twice[path] == 1 else Path(f"{path}_{Path(name).suffix[1:]}"))
        for name in names
        for path in [Path(name).with_suffix("")]
    ]


def _hole(reading: Reading) -> tuple[int, int] | None:
    """The bars that are written anew, as the first of those that are read and how many.

    Raises:
        InputError: they are not all among those that are read.
    """
    if not reading.fill:
        return None
    first, last = map(int, reading.fill.split("-"))
    if not reading.start <= first <= last < reading.start + reading.bars:
        raise InputError(
            f"read.fill={reading.fill}: bars {reading.start} to "
            f"{reading.start + reading.bars - 1} are read",
            hint="set read.start and read.bars so that these and some around them are read",
        )
    return first - reading.start, last - first + 1
