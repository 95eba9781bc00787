"""MIDI files as rows of events, for models that continue music."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data._claim import MARKED, Claim, parts
from aigc_cli.data._data import Prepared
from aigc_cli.data._music_files import (
    AnySources,
    PieceConfig,
    Pieces,
    Report,
    files_in,
    gather,
    parts_of,
)
from aigc_cli.data._stream import Key
from aigc_cli.data._suggest import Suggestions
from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, NAMES, Events, Music, on_grid
from aigc_cli.media.merges import Merges, merges_of
from aigc_cli.media.midi import midi_bytes
from aigc_cli.media.parsing import parse
from aigc_cli.sampling.markov import Markov
from aigc_cli.specs.music import MusicSpec
from aigc_cli.specs.text import IGNORE

ORDERS = (0, 2)
"""How far the chains look back that a model is measured beside."""


class Config(PieceConfig):
    """Pieces, and how they come into rows of events."""

    kind: Literal["midi"] = "midi"
    """MIDI files."""
    context: int = Field(256, ge=8, le=1 << 16)
    """Tokens in a row: events, or what some of these are merged into."""
    vocab_size: int | None = Field(None, gt=0, le=1_000_000)
    """Tokens, all included: events, and runs of events that are frequent in the training pieces, by
    byte pair encoding; by default events alone.
    """
    transpose: int = Field(5, ge=0, le=12)
    """Training rows are moved by up to so many semitones up or down; 0 leaves them in their key."""
    infill: float = Field(0.2, ge=0, le=1)
    """Part of the training rows that ask for bars between others; 0 where none will be filled in.
    """
    labels: Literal["none", "folders", "names"] = "none"
    """What a piece is said to be, such as its genre: the folder it lies in, or the letters that its
    name begins with.
    """


def read_pieces(
    sources: AnySources, events: Events, *, bases: Sequence[Path] = (), key: str = "data"
) -> Pieces[Music]:
    """Every usable piece of one source or several.

    Raises:
        DataError: there is none; says why not.
    """

    def read(source: str) -> Iterator[tuple[str, Music | DataError]]:
        for name, midi in parse(files_in(source, bases)):
            try:
                yield name, midi if isinstance(midi, DataError) else on_grid(midi, events, name)
            except DataError as error:
                yield name, error

    return gather(sources, read, key=key)


def report_of(pieces: Pieces[Music], events: Events) -> Report:
    """What there is of a part, and digests by which pieces are known again."""
    music = pieces.music
    return Report(
        pieces.source, pieces.names,
        {
            "pieces": len(music),
            "bars": sum(m.bars for m in music),
            "notes": sum(len(m.notes) for m in music),
            "events": sum(len(events.row(m)) for m in music),
        },
        pieces.skipped,
        [hashlib.sha256(m.notes.tobytes()).hexdigest() for m in music],
    )  # fmt: skip


def transposed(music: Music, semitones: int) -> Music:
    """The piece in another key; drums stay, and all of it where a pitch would leave 0 to 127."""
    notes = music.notes.copy()
    pitched = notes[:, 3] != INSTRUMENTS - 1
    notes[pitched, 2] += semitones
    if len(notes) and not 0 <= int(notes[:, 2].min()) <= int(notes[:, 2].max()) <= 127:
        return music
    key = music.key // 12 * 12 + (music.key + semitones) % 12
    return replace(music, notes=notes, key=key)


def label_of(name: str, labels: Literal["none", "folders", "names"]) -> str:
    """What a piece of this name is said to be; "" where nothing is."""
    path = PurePosixPath(name)
    if labels == "folders":
        return path.parent.name
    match = re.match(r"[^\W\d_]+", path.name)
    return match[0] if labels == "names" and match else ""


def labeled(pieces: Pieces[Music], names: Sequence[str], config: Config) -> Pieces[Music]:
    """The pieces with the numbers of their labels; those without one are skipped."""
    if not names:
        return pieces
    found = [label_of(name, config.labels) for name in pieces.names]
    kept = [number for number, label in enumerate(found) if label in names]
    music = [replace(pieces.music[n], label=names.index(found[n])) for n in kept]
    unknown = {
        name: f"has no label of the model ({label or 'none'})"
        for name, label in zip(pieces.names, found, strict=True)
        if label not in names
    }
    skipped = {**pieces.skipped, **unknown}
    if not music:
        raise DataError(f"{pieces.source}: no piece has one of the labels {', '.join(names)}")
    return Pieces(pieces.source, [pieces.names[n] for n in kept], music, skipped)


def learned(music: Sequence[Music], events: Events, config: Config) -> Merges:
    """What is merged for `vocab_size` tokens: by the pieces, each in one of the keys that training
    moves it to, all of which come about evenly.

    Raises:
        DataError: there are more events, or fewer pairs to merge.
    """
    size, least = config.vocab_size, events.offsets["size"]
    if size is None:
        return Merges(events)
    if size < least:
        raise DataError(f"data.vocab_size={size}: the events of this grid alone are {least:,}")
    keys = range(-config.transpose, config.transpose + 1)
    moved = (transposed(piece, keys[n % len(keys)]) for n, piece in enumerate(music))
    found = Merges.learn(events, map(events.row, moved), size)
    if (count := len(found.spelled)) < size:
        raise DataError(
            f"data.vocab_size={size}: the training pieces have what {count:,} tokens take",
            hint=f"set it to {count} or less, or give more pieces",
        )
    return found


class Rows:
    """Each piece in stretches of `context` tokens, all behind its head."""

    def __init__(self, music: Sequence[Music], merges: Merges, context: int) -> None:
        self.music, self.merges, self.context = music, merges, context
        self.events = merges.events
        self.head = len(self.events.head(music[0]))
        self.rows = [self.encode(piece) for piece in music]
        self.chains: list[Markov] = []
        self.step = context + 1 - self.head
        self.places = [
            (number, start)
            for number, row in enumerate(self.rows)
            for start in range(0, max(len(row) - self.head - 1, 1), self.step)
        ]

    def encode(self, piece: Music) -> Tensor:
        """All tokens of a piece."""
        row = [*self.events.row(piece), self.events.offsets["end"]]
        return torch.tensor(self.merges.merged(row))

    def learn(self, chains: Iterable[Markov]) -> None:
        """Say of each event what these chains make of it, as `unigram` and `markov`."""
        self.chains = list(chains)

    def __len__(self) -> int:
        return len(self.places)

    def item(self, row: Tensor, start: int) -> dict[str, Tensor]:
        """The tokens from a place behind the head on; the head is learned with the first."""
        head = self.head
        part = torch.cat([row[:head], row[head + start :][: self.step]])
        target = part[1:].clone()
        at = self.events.offsets
        target[(target == at["hole"]) | (target == at["fill"])] = IGNORE  # they are never written
        if start:
            target[: head - 1] = IGNORE
        short = self.context - len(target)
        pad = torch.nn.functional.pad
        return {
            "tokens": pad(part[:-1], (0, short)),
            "target": pad(target, (0, short), value=IGNORE),
        }

    def _costs(self, chain: Markov, row: Tensor) -> Tensor:
        """Nats of each token of a row (T,), the sum of those of its events."""
        events = np.array(self.merges.split(row.tolist()))
        lengths = self.merges.lengths[row.numpy()]
        costs = -np.log(chain.probabilities(events))
        return torch.from_numpy(np.add.reduceat(costs, lengths.cumsum() - lengths)).float()

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, start = self.places[index]
        row, head = self.rows[number], self.head
        item = self.item(row, start)
        for name, chain in zip(("unigram", "markov"), self.chains, strict=False):
            nats = self._costs(chain, row)
            part = torch.cat([nats[:head], nats[head + start :][: self.step]])[1:]
            part = torch.nn.functional.pad(part, (0, self.context - len(part)))
            item[name] = part.where(item["target"] != IGNORE, torch.zeros(()))
        return item


class Drawn:
    """Training rows: a stretch of a piece that begins with a bar, in a key of its own; in some rows
    the last bars belong between the others.
    """

    def __init__(self, rows: Rows, transpose: int, infill: float) -> None:
        self.rows, self.transpose, self.infill = rows, transpose, infill

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        index, seed = key
        number, start = self.rows.places[index]
        draw = np.random.default_rng(seed)
        semitones = int(draw.integers(-self.transpose, self.transpose + 1))
        row = self.rows.encode(transposed(self.rows.music[number], semitones))
        head = self.rows.head
        begins = torch.from_numpy(self.rows.merges.first)[row[head:]]
        bars = (begins == self.rows.events.offsets["bar"]).nonzero()[:, 0]
        if start:
            low, high = start - self.rows.step // 2, start + self.rows.step // 2
            near = bars[(bars >= low) & (bars <= high)]
            start = int(near[int(draw.integers(len(near)))]) if len(near) else start
        if draw.random() < self.infill:
            row, start = self._rearranged(row, bars[bars >= start] + head, draw), 0
        return self.rows.item(row, start)

    def _rearranged(self, row: Tensor, bars: Tensor, draw: np.random.Generator) -> Tensor:
        """The head, and of the bars that begin at `bars` so many as fit, some of them moved to the
        end, as `Events.with_hole` says.
        """
        at, head = self.rows.events.offsets, self.rows.head
        ends = torch.cat([bars[1:], torch.tensor([len(row) - 1])])
        first = bars[0] if len(bars) else 0
        count = int((ends - first + torch.arange(len(bars)) + 2 <= self.rows.step).sum())
        if count < 2:
            return torch.cat([row[:head], row[int(first) or head :]])
        begins = torch.cat([bars[:count], ends[count - 1 : count]]).tolist()
        a, b = sorted(draw.choice(count + 1, 2, replace=False).tolist())
        hole, fill, end = (torch.tensor([at[name]]) for name in ("hole", "fill", "end"))
        before, middle, after = (
            row[begins[i] : begins[j]] for i, j in ((0, a), (a, b), (b, count))
        )
        return torch.cat([row[:head], before, hole.repeat(b - a), after, fill, middle, end])


class Data(Prepared):
    """Training and validation rows, split by file; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, on the grid of the model.

    Raises:
        DataError: a source is absent, or no file in it can be used.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: MusicSpec | None = None,
    ) -> None:
        resolution = config.resolution if spec is None else spec.resolution
        beats = config.beats_per_bar if spec is None else spec.beats_per_bar
        events = Events(resolution, beats)
        parts = parts_of(
            config.train, config.val,
            lambda source, key: read_pieces(source, events, bases=bases, key=key),
            val_only=spec is not None,
        )  # fmt: skip
        if spec is None:
            names = {label_of(name, config.labels) for name in parts["data.train"].names} - {""}
            if config.labels != "none" and len(names) < 2:
                raise DataError(
                    f"data.labels: the {config.labels} of {parts['data.train'].source!r} give "
                    f"{len(names)} labels, and a condition needs two"
                )
            spec = MusicSpec(config.context, resolution, beats, tuple(sorted(names)))
        self.pieces = {key: labeled(part, spec.labels, config) for key, part in parts.items()}
        self.music = {key: part.music for key, part in self.pieces.items()}
        merges = merges_of(spec)
        if "data.train" in self.pieces:
            merges = learned(self.music["data.train"], merges.events, config)
        self.spec = replace(spec, merges=merges.pairs)
        rows = {key: Rows(music, merges, spec.context) for key, music in self.music.items()}
        self.val, events = rows["data.val"], merges.events
        if "data.train" in rows:
            self.train = Drawn(rows["data.train"], config.transpose, config.infill)
            whole = [np.array(merges.split(row.tolist())) for row in rows["data.train"].rows]
            self.val.learn(Markov(whole, events.offsets["size"], order) for order in ORDERS)
        self.report = {key: report_of(self.pieces[key], events) for key in sorted(self.pieces)}
        for key, report in self.report.items() if merges.pairs else ():
            report.counts["tokens"] = sum(len(row) - 1 for row in rows[key].rows)  # without `end`


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """MIDI files."""
    values = parts(source, bases)
    try:
        count = sum(1 for _ in files_in(values["train"], bases=bases))
    except DataError:
        return None
    return Claim(values, f"{count:,} MIDI files", MARKED) if count else None


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """The meter that most files can be read in."""
    kept = {}
    for beats in (4, 3):
        try:
            events = Events(config.resolution, beats)
            kept[beats] = len(read_pieces(config.train, events, bases=bases).music)
        except DataError:
            kept[beats] = 0
    if not any(kept.values()):  # says why
        read_pieces(config.train, Events(config.resolution, 4), bases=bases, key="data.train")
    beats = max(kept, key=lambda beats: kept[beats])
    return {"beats_per_bar": (beats, f"{kept[beats]:,} files have bars of {beats} quarters.")}


def scale_file(root: int, *, bars: int = 4, tempo: int = 96) -> bytes:
    """A tiny piece: a scale up and down over chords."""
    degrees = (0, 2, 4, 5, 7, 9, 11, 12)
    eighths = [*degrees, *reversed(degrees)]
    rows = []
    for number in range(bars * 8):
        rows.append((number * 240, 240, 60 + root + eighths[number % 16], 0, 100))
        if number % 8 == 0:
            rows += [(number * 240, 1920, 48 + root + pitch, 32, 80) for pitch in (0, 4, 7)]
    return midi_bytes(np.array(rows), tempo, (4, 4))


def example(folder: Path) -> dict[str, Any]:
    """Scales in twelve keys."""
    folder.mkdir(parents=True, exist_ok=True)
    for root, name in enumerate(NAMES):
        path = folder / f"{root:02d} scale in {name.replace('#', ' sharp')}.mid"
        path.write_bytes(scale_file(root, tempo=80 + 4 * root))
    return {"kind": "midi", "train": str(folder), "context": 48}
