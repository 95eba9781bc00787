"""Pieces as frames, which keys of a piano sound at each step, for models that give the next frame.

| source                       | what it is                                                      |
|------------------------------|-----------------------------------------------------------------|
| folder, zip, list, MIDI file | as of kind `midi`, in any meter                                 |
| `chorales.json:train`        | pieces under a name of a JSON object: lists of frames, which    |
|                              | are lists of pitches, -1 for silence; packed too, `.json.gz`    |
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data._data import Prepared
from aigc_cli.data._images import Sources
from aigc_cli.data._music_files import AnySources, Pieces, Report, files_in, gather, parts_of
from aigc_cli.data._paths import find_path, json_part
from aigc_cli.data._stream import Key
from aigc_cli.errors import DataError, did_you_mean
from aigc_cli.media.frames import KEYS, Frames, music_of, sets_as_frames, sounding
from aigc_cli.media.parsing import parse
from aigc_cli.recipe.sections import Section
from aigc_cli.specs.music import FramesSpec

MAX_JSON = 1 << 27  # bytes, unpacked
TEMPO = 90.0  # quarters a minute, of frames that come without


class Config(Section):
    """Pieces, and how they come into rows of frames."""

    modality: ClassVar[str] = "music"

    kind: Literal["frames"] = "frames"
    """Which keys of a piano sound at each step."""
    train: Sources
    """A folder, zip, MIDI file or .txt list of MIDI files to train on, a part FILE.json:NAME of
    lists of pitches, or several.
    """
    val: Sources = "10%"
    """The same to validate with, or the share of the pieces of `train` that is held out: `10%` is
    every tenth piece, `last 10%` those whose names come last.
    """
    context: int = Field(128, ge=4, le=1 << 14)
    """Frames in a row. Of pieces that are longer, validation counts each frame once, with at least
    half so many before it.
    """
    resolution: Literal[1, 2, 3, 4, 6, 8, 12] = 2
    """Frames of a quarter in MIDI files: 1 is usual for chorales, 2 for folk tunes."""
    beats_per_bar: int = Field(4, ge=1, le=12)
    """Quarters of a bar of what is written; pieces are read in any meter."""
    transpose: int = Field(5, ge=0, le=12)
    """Training rows are moved by up to so many semitones up or down; 0 leaves them in their key."""


@dataclass(frozen=True, eq=False)
class Roll:
    """A piece as frames (T, 88), and its tempo."""

    frames: Frames
    tempo: float = TEMPO


def read_rolls(
    sources: AnySources,
    resolution: int,
    *,
    bases: Sequence[Path] = (),
    key: str = "data",
) -> Pieces[Roll]:
    """Every usable piece of one source or several.

    Raises:
        DataError: there is none; says why not.
    """

    def read(source: str) -> Iterator[tuple[str, Roll | DataError]]:
        if found := json_part(source):
            yield from _listed(*found, bases)
            return
        for name, midi in parse(files_in(source, bases)):
            try:
                yield (
                    name,
                    midi
                    if isinstance(midi, DataError)
                    else Roll(sounding(midi, resolution, name), midi.tempo),
                )
            except DataError as error:
                yield name, error

    return gather(sources, read, key=key)


def _listed(file: str, part: str | None, bases: Sequence[Path]) -> Iterator[tuple[str, Roll | Any]]:
    """The pieces of a JSON file, by the name of their part and their number."""
    path = find_path(file, bases)
    whole = _json(path)
    if isinstance(whole, dict):
        if part is None or part not in whole:
            said = "names none" if part is None else f"has no {part!r}"
            raise DataError(
                f"{path}: has the parts {', '.join(map(str, whole))}, and {file!r} {said}",
                hint=did_you_mean(part or "", list(whole)) if part else f"write {file}:PART",
            )
        whole = whole[part]
    if not isinstance(whole, list):
        raise DataError(f"{path}: is no list of pieces, and no object of such lists")
    for number, piece in enumerate(whole):
        name = f"{part or path.stem}-{number:05d}"
        try:
            yield name, Roll(sets_as_frames(piece, name))
        except DataError as error:
            yield name, error


def _json(path: Path) -> Any:
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rb") as file:
            data = file.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            raise DataError(f"{path}: is larger than {MAX_JSON:,} bytes")
        return json.loads(data)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON that can be read: {error}") from error


def _notes(frames: Frames) -> int:
    return int(np.diff(frames.astype(np.int8), axis=0, prepend=0).clip(0).sum())


def report_of(pieces: Pieces[Roll]) -> Report:
    """What there is of a part, and digests by which pieces are known again."""
    rolls = [roll.frames for roll in pieces.music]
    counts = {
        "pieces": len(rolls),
        "frames": sum(map(len, rolls)),
        "notes": sum(
            int(np.diff(r.astype(np.int8), axis=0, prepend=0).clip(0).sum()) for r in rolls
        ),
    }
    digests = [hashlib.sha256(np.packbits(roll).tobytes()).hexdigest() for roll in rolls]
    return Report(pieces.source, pieces.names, counts, pieces.skipped, digests)


def statistics(rolls: Sequence[Frames]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`unigram` and `markov` of `FramesSpec`, one frame more counted on either side, so that
    nothing is impossible.
    """
    sums = np.sum([roll.sum(0) for roll in rolls], 0)
    total = sum(map(len, rolls))
    after = np.zeros((2, 2, KEYS))  # before, now
    for roll in rolls:
        for before in (False, True):
            for now in (False, True):
                after[int(before), int(now)] += ((roll[:-1] == before) & (roll[1:] == now)).sum(0)
    unigram = (sums + 1) / (total + 2)
    markov = (after[:, 1] + 1) / (after.sum(1) + 2)
    return tuple(unigram.round(7).tolist()), tuple(markov.ravel().round(7).tolist())


def transposed(frames: Frames, semitones: int) -> Frames:
    """The frames some keys higher; as they are where a key would leave the piano."""
    used = np.flatnonzero(frames.any(0))
    if len(used) and not 0 <= used[0] + semitones <= used[-1] + semitones < KEYS:
        return frames
    return np.roll(frames, semitones, 1)


class Rows:
    """Validation rows: every frame of every piece but its first, which nothing precedes, is counted
    once.
    """

    def __init__(self, rolls: Sequence[Roll], context: int) -> None:
        self.rolls, self.context = rolls, context
        half = context // 2  # frames that a row which goes on counts, at its end
        self.places = [
            (number, start)
            for number, roll in enumerate(rolls)
            for start in (0, *range(half, len(roll.frames) - (context - half), half))
        ]

    def __len__(self) -> int:
        return len(self.places)

    def item(self, frames: Frames, start: int, counted: int) -> dict[str, Tensor]:
        """A row from a frame on, whose first `counted` frames do not count."""
        T = self.context
        row = np.zeros((T, KEYS), np.uint8)
        part = frames[start : start + T]
        row[: len(part)] = part
        seen = np.zeros((T, KEYS + 1), np.uint8)
        seen[1:, :KEYS] = row[:-1]
        if start:
            seen[0, :KEYS] = frames[start - 1]
        else:
            seen[0, KEYS] = 1
        place = np.arange(T)
        learned = (place >= counted) & (place < len(part))
        return {
            "seen": torch.from_numpy(seen),
            "frames": torch.from_numpy(row),
            "counted": torch.from_numpy(learned),
        }

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, start = self.places[index]
        half = self.context // 2
        return self.item(self.rolls[number].frames, start, self.context - half if start else 1)


class Drawn:
    """Training rows: a stretch of a piece from any frame on, in a key of its own; every frame of it
    counts, the first of a piece too.
    """

    def __init__(self, rolls: Sequence[Roll], context: int, transpose: int) -> None:
        self.rows, self.transpose = Rows(rolls, context), transpose
        self.pieces = [
            number
            for number, roll in enumerate(rolls)
            for _ in range(-(-len(roll.frames) // context))
        ]
        longest = [min(len(roll.frames), context) for roll in rolls]
        self.lengths = np.array([longest[number] for number in self.pieces])
        """Frames of each row: batches are made of rows of about one length."""

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        index, seed = key
        draw = np.random.default_rng(seed)
        frames = self.rows.rolls[self.pieces[index]].frames
        semitones = int(draw.integers(-self.transpose, self.transpose + 1))
        late = max(len(frames) - self.rows.context, 0)
        start = int(draw.integers(late + 1))
        return self.rows.item(transposed(frames, semitones), start, 0)


class Data(Prepared):
    """Training and validation rows, split by piece; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, with the frames of the model.

    Raises:
        DataError: a source is absent, or no piece in it can be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: FramesSpec | None = None,
    ) -> None:
        resolution = config.resolution if spec is None else spec.resolution
        parts = parts_of(
            config.train, config.val,
            lambda source, key: read_rolls(source, resolution, bases=bases, key=key),
            val_only=spec is not None,
        )  # fmt: skip
        if spec is None:
            rolls = parts["data.train"].music
            unigram, markov = statistics([roll.frames for roll in rolls])
            tempo = float(np.mean([roll.tempo for roll in rolls]).round(1))
            spec = FramesSpec(
                config.context, resolution, config.beats_per_bar, tempo, unigram, markov
            )
            self.train = Drawn(rolls, config.context, config.transpose)
        self.spec = spec
        self.val = Rows(parts["data.val"].music, spec.context)
        self.music = {
            key: [
                music_of(roll.frames, resolution, spec.beats_per_bar, roll.tempo)
                for roll in part.music
            ]
            for key, part in parts.items()
        }
        self.report = {key: report_of(parts[key]) for key in sorted(parts)}


def example(folder: Path) -> dict[str, Any]:
    """Scales in twelve keys."""
    from aigc_cli.data.midi import example as scales

    return {**scales(folder), "kind": "frames", "context": 12}
