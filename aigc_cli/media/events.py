"""Music as a row of events, in the manner of REMI.

Huang and Yang, "Pop Music Transformer", 2020, https://arxiv.org/abs/2002.00212. A piece is

    begin KEY TEMPO DENSITY LABEL? (bar (POSITION (INSTRUMENT? PITCH DURATION)+)*)+ end

INSTRUMENT stands where it differs from that of the note before in its bar, so a bar means the same
wherever it stands. Notes at one position are sorted by instrument and pitch, so every piece has one
row of events and every row of the grammar one piece. LABEL is there where the data have labels.

Bars that are to be filled in come last (Bavarian et al., 2022, https://arxiv.org/abs/2207.14255),
with a `hole` in the place of each:

    begin ... BARS hole+ BARS fill BARS end
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError
from aigc_cli.media.midi import DRUMS, TICKS, Midi, Notes

MAX_BARS = 2_000
INSTRUMENTS = 17
"""The sixteen groups of eight programs of General MIDI, and drums."""
VELOCITY = 90
TEMPOS = tuple(range(40, 241, 8))
DENSITIES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
"""Notes a quarter that part sparse pieces from dense ones."""
NAMES = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
KEYS = (*(f"{name} major" for name in NAMES), *(f"{name} minor" for name in NAMES))

# Weights of the twelve degrees in major and minor: Krumhansl and Kessler, 1982.
MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True, eq=False)
class Music:
    """A piece on a grid. notes (N, 4): start and duration in steps, pitch, instrument (group of
    programs), sorted by start, instrument and pitch; equal pitches of an instrument do not overlap.
    """

    notes: NDArray[np.int64]
    resolution: int
    """Steps of a quarter."""
    beats_per_bar: int
    """Quarters of a bar."""
    bars: int
    tempo: int
    """Quarters a minute, one of TEMPOS."""
    key: int
    """Number in KEYS."""
    label: int = -1
    """Number of the piece's label in the spec of its data; -1 where it has none."""

    @property
    def density(self) -> int:
        """How many of DENSITIES are below the notes of a quarter."""
        notes = len(self.notes) / max(self.bars * self.beats_per_bar, 1)
        return bisect_left(DENSITIES, notes)

    @property
    def steps_per_bar(self) -> int:
        return self.resolution * self.beats_per_bar

    @property
    def facts(self) -> dict[str, object]:
        """For people and samples.json."""
        return {
            "key": KEYS[self.key],
            "tempo": self.tempo,
            "bars": self.bars,
            "notes": len(self.notes),
        }

    def as_midi(self) -> Notes:
        """The notes as in media/midi.py, TICKS a quarter."""
        scale = TICKS // self.resolution
        start, duration, pitch, instrument = self.notes.T
        program = np.where(instrument == INSTRUMENTS - 1, DRUMS, instrument * 8)
        velocity = np.full_like(start, VELOCITY)
        return np.stack([start * scale, duration * scale, pitch, program, velocity], 1)

    def bars_from(self, first: int, bars: int) -> Music:
        """So many bars; notes that reach beyond the last are kept whole."""
        bars = min(bars, self.bars - first)
        bar = self.notes[:, 0] // self.steps_per_bar
        kept = self.notes[(bar >= first) & (bar < first + bars)].copy()
        kept[:, 0] -= first * self.steps_per_bar
        return replace(self, notes=kept, bars=bars)


def joined(parts: Sequence[Music]) -> Music:
    """Pieces one after the other, with the head of the first."""
    steps = np.cumsum([0, *(part.bars * part.steps_per_bar for part in parts)])
    shift = np.eye(1, 4, dtype=np.int64)  # of the start alone
    notes = [part.notes + a * shift for part, a in zip(parts, steps.tolist(), strict=False)]
    bars = sum(part.bars for part in parts)
    return replace(parts[0], notes=settle(np.concatenate(notes)), bars=bars)


def estimate_key(notes: NDArray[np.int64]) -> int:
    """The number in KEYS whose profile goes best with how long each pitch class sounds."""
    pitched = notes[notes[:, 3] != INSTRUMENTS - 1]
    heard = np.bincount(pitched[:, 2] % 12, weights=pitched[:, 1], minlength=12)
    if not heard.any() or heard.std() == 0:
        return 0
    profiles = [np.roll(profile, root) for profile in (MAJOR, MINOR) for root in range(12)]
    return int(np.argmax([np.corrcoef(heard, profile)[0, 1] for profile in profiles]))


def settle(notes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorted, each pitch of an instrument ending where it begins again; of equals the longest."""
    if not len(notes):
        return notes
    notes = notes[np.lexsort((-notes[:, 1], notes[:, 2], notes[:, 3], notes[:, 0]))]
    order = np.lexsort((notes[:, 0], notes[:, 2], notes[:, 3]))
    rows = notes[order]
    same = (rows[1:, 2:] == rows[:-1, 2:]).all(1)
    repeated = np.concatenate([[False], same & (rows[1:, 0] == rows[:-1, 0])])
    rows, order = rows[~repeated].copy(), order[~repeated]
    same = (rows[1:, 2:] == rows[:-1, 2:]).all(1)
    gap = np.where(same, rows[1:, 0] - rows[:-1, 0], np.iinfo(np.int64).max)
    rows[:-1, 1] = np.minimum(rows[:-1, 1], gap)
    return np.asarray(rows[np.argsort(order, kind="stable")])


def on_grid(midi: Midi, events: Events, name: str) -> Music:
    """A piece on the grid of these events, without empty bars before its first note.

    Raises:
        DataError: it has another meter, or is too long; names the file.
    """
    for numerator, denominator in midi.meters:
        quarters = 4 * numerator / denominator if denominator else 0
        if not quarters or events.beats_per_bar % quarters:
            raise DataError(
                f"{name}: is in {numerator}/{denominator}, and bars have "
                f"{events.beats_per_bar} quarters"
            )
    per_step = midi.ticks / events.resolution
    start = np.floor(midi.notes[:, 0] / per_step + 0.5).astype(np.int64)
    duration = np.floor(midi.notes[:, 1] / per_step + 0.5).astype(np.int64)
    program = midi.notes[:, 3]
    group = np.where(program == DRUMS, INSTRUMENTS - 1, program // 8)
    start -= start.min() // events.steps_per_bar * events.steps_per_bar
    bars = int(start.max()) // events.steps_per_bar + 1
    if bars > MAX_BARS:
        raise DataError(f"{name}: has {bars:,} bars, and {MAX_BARS:,} are read at most")
    duration = duration.clip(1, events.longest)
    notes = settle(np.stack([start, duration, midi.notes[:, 2], group], 1))
    tempo = min(TEMPOS, key=lambda tempo: abs(tempo - midi.tempo))
    return Music(
        notes, events.resolution, events.beats_per_bar, bars, tempo, estimate_key(notes)
    )  # fmt: skip


@dataclass(frozen=True)
class Events:
    """The vocabulary of a grid, and what a row of its events means."""

    resolution: int
    beats_per_bar: int
    labels: int = 0
    """How many labels pieces may have."""

    @property
    def steps_per_bar(self) -> int:
        return self.resolution * self.beats_per_bar

    @property
    def longest(self) -> int:
        """Steps of the longest note: two bars."""
        return 2 * self.steps_per_bar

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where the events of each kind begin; `size` is that of the vocabulary."""
        sizes = {
            "end": 1, "begin": 1, "bar": 1, "hole": 1, "fill": 1, "key": len(KEYS),
            "tempo": len(TEMPOS), "density": len(DENSITIES) + 1, "label": self.labels,
            "position": self.steps_per_bar, "instrument": INSTRUMENTS, "pitch": 128,
            "duration": self.longest, "size": 0,
        }  # fmt: skip
        ends = np.cumsum([0, *sizes.values()]).tolist()
        return dict(zip(sizes, ends, strict=False))

    def kind_of(self, event: int) -> tuple[str, int]:
        """The kind of an event and its number among those."""
        return self._kinds[event]

    @cached_property
    def _kinds(self) -> list[tuple[str, int]]:
        names = list(self.offsets)
        ends = [*list(self.offsets.values())[1:], self.offsets["size"]]
        return [
            (name, event - self.offsets[name])
            for name, end in zip(names, ends, strict=True)
            for event in range(self.offsets[name], end)
        ]

    def head(self, music: Music) -> list[int]:
        """What stands before the first bar."""
        at = self.offsets
        tempo = at["tempo"] + TEMPOS.index(music.tempo)
        head = [at["begin"], at["key"] + music.key, tempo, at["density"] + music.density]
        return [*head, at["label"] + max(music.label, 0)] if self.labels else head

    def encode(self, music: Music) -> list[list[int]]:
        """The events of a piece: its head, then those of each bar, without `end`."""
        at, steps = self.offsets, self.steps_per_bar
        parts = [self.head(music), *([at["bar"]] for _ in range(music.bars))]
        instrument, before = -1, -1
        for start, duration, pitch, group in music.notes.tolist():
            bar = parts[1 + start // steps]
            if start // steps != before // steps:
                instrument = -1
            if start != before:
                bar.append(at["position"] + start % steps)
            if group != instrument:
                bar.append(at["instrument"] + group)
            bar += [at["pitch"] + pitch, at["duration"] + duration - 1]
            instrument, before = group, start
        return parts

    def row(self, music: Music) -> list[int]:
        """All of them, one after the other."""
        return [event for part in self.encode(music) for event in part]

    def decode(self, events: Iterable[int]) -> Music:
        """The piece of a row, which may stop anywhere: a note without its duration is left out."""
        key, tempo, bars, position, instrument, pitch = 0, TEMPOS[10], 0, 0, 0, -1
        label = -1
        notes: list[tuple[int, int, int, int]] = []
        for kind, number in map(self.kind_of, events):
            match kind:
                case "key":
                    key = number
                case "tempo":
                    tempo = TEMPOS[number]
                case "label":
                    label = number
                case "bar":
                    bars, position = bars + 1, 0
                case "position":
                    position = number
                case "instrument":
                    instrument = number
                case "pitch":
                    pitch = number
                case "duration":
                    start = max(bars - 1, 0) * self.steps_per_bar + position
                    notes.append((start, number + 1, pitch, instrument))
                case "end":
                    break
        rows = settle(np.array(notes, np.int64).reshape(-1, 4))
        return Music(rows, self.resolution, self.beats_per_bar, bars, tempo, key, label)

    def with_hole(self, music: Music, first: int, bars: int) -> list[int]:
        """The row of a piece without some of its bars, from number `first` on, up to the place
        where these are to be written.
        """
        at, parts = self.offsets, self.encode(music)
        holes = [[at["hole"]] * bars]
        order = [*parts[: 1 + first], *holes, *parts[1 + first + bars :], [at["fill"]]]
        return [event for part in order for event in part]

    def filled(self, row: Sequence[int], written: Sequence[int]) -> Music:
        """The piece of a row with a hole, and of what was written behind it."""
        hole = self.offsets["hole"]
        first, bars = row.index(hole), row.count(hole)
        before, middle = self.decode(row[:first]), self.decode(written)
        missing = replace(middle, notes=middle.notes[:0], bars=bars - middle.bars)
        return joined([before, middle, missing, self.decode(row[first + bars : -1])])


class Grammar:
    """Which events may follow those of a row so far. `asked`: the number of an event of the head
    that is to be taken, by its kind.
    """

    def __init__(self, events: Events, asked: Mapping[str, int] | None = None) -> None:
        self.events, self.asked = events, dict(asked or {})
        self.left: int | None = None
        """Bars that are still to be begun before the end; None leaves it open."""
        self.kind, self.position, self.instrument, self.pitch = "", -1, -1, -1
        self.fresh = True
        """Whether no note stands at this position yet."""

    def copy(self) -> Grammar:
        other = Grammar(self.events)
        other.__dict__.update(self.__dict__)
        return other

    def read(self, row: Sequence[int]) -> Grammar:
        """Take note of these events."""
        for event in row:
            self.kind, number = self.events.kind_of(event)
            if self.kind == "bar":
                self.position, self.instrument = -1, -1
                self.left = None if self.left is None else self.left - 1
            elif self.kind == "position":
                self.position, self.fresh, self.pitch = number, True, -1
            elif self.kind == "instrument":
                self.instrument, self.pitch = number, -1
            elif self.kind == "pitch":
                self.pitch, self.fresh = number, False
        return self

    def _next(self) -> str:
        """The kind of event that follows in the head; none behind it."""
        head = ["begin", "key", "tempo", "density", *(["label"] if self.events.labels else []), ""]
        return head[head.index(self.kind) + 1]

    def _head(self, out: NDArray[np.bool_]) -> None:
        first, kind = self.events.offsets, self._next()
        if kind in self.asked:
            out[first[kind] + self.asked[kind]] = True
        else:
            names = list(first)
            out[first[kind] : first[names[names.index(kind) + 1]]] = True

    def allowed(self) -> NDArray[np.bool_]:
        """(V,): True for each event that may come next."""
        at, out = self.events.offsets, np.zeros(self.events.offsets["size"], np.bool_)
        match self.kind:
            case "":
                out[at["begin"]] = True
            case "begin" | "key" | "tempo" | "density" if self._next():
                self._head(out)
            case "density" | "label" | "fill":
                out[at["bar"]] = True
            case "bar" | "duration":
                out[at["position"] + self.position + 1 : at["instrument"]] = True
                out[at["bar"]] = self.left is None or self.left > 0
                out[at["end"]] = not self.left
                if self.kind == "duration":
                    out[at["pitch"] + self.pitch + 1 : at["duration"]] = True
                    out[at["instrument"] + self.instrument + 1 : at["pitch"]] = True
            case "position":
                out[at["instrument"] : at["pitch"]] = True
                if self.instrument >= 0:
                    out[at["pitch"] : at["duration"]] = True
                    out[at["instrument"] + self.instrument] = False
            case "instrument":
                out[at["pitch"] : at["duration"]] = True
            case "pitch":
                out[at["duration"] :] = True
        return out
