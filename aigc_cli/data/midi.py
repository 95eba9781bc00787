"""MIDI files as rows of events, for models that continue music."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.catalog.builtin import parts_of
from aigc_cli.data._cache import digest
from aigc_cli.data._claim import MARKED, Claim, parts
from aigc_cli.data._fit import Fit
from aigc_cli.data._images import Sources
from aigc_cli.data._paths import find_path, zip_folder
from aigc_cli.data._rows import HeldOut
from aigc_cli.data._sources import clean_name, is_hidden
from aigc_cli.data._stream import Key
from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, NAMES, Events, Music, on_grid
from aigc_cli.media.midi import MAX_BYTES, midi_bytes, read_midi
from aigc_cli.recipe.sections import Section
from aigc_cli.specs.music import MusicSpec
from aigc_cli.specs.text import IGNORE

ENDINGS = (".mid", ".midi")
MAX_FILES = 1_000_000
LISTED = 5  # skipped files that a message names


class Config(Section):
    """Pieces, and how they come into rows of events."""

    modality: ClassVar[str] = "music"

    kind: Literal["midi"] = "midi"
    """MIDI files."""
    train: Sources
    """A folder, zip, MIDI file or .txt list of MIDI files to train on, or several."""
    val: Sources = "10%"
    """The same to validate with, or the share of the files of `train` that is held out: `10%` is
    every tenth file, `last 10%` those whose names come last.
    """
    context: int = Field(256, ge=8, le=1 << 16)
    """Events in a row."""
    resolution: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 4
    """Steps of a quarter; 4 are sixteenths, 12 also have triplets."""
    beats_per_bar: int = Field(4, ge=1, le=12)
    """Quarters of a bar; files in another meter are skipped."""
    transpose: int = Field(5, ge=0, le=12)
    """Training rows are moved by up to so many semitones up or down; 0 leaves them in their key."""


@dataclass(frozen=True)
class Report:
    """What was found in a source, and what was left out and why."""

    source: str
    names: list[str]
    pieces: int
    bars: int
    notes: int
    tokens: int
    skipped: dict[str, str] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    """Of the notes of each piece."""

    @property
    def content(self) -> str:
        return digest(self.digests)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        left = f", {len(self.skipped):,} skipped" if self.skipped else ""
        return f"{self.pieces:,} pieces, {self.bars:,} bars, {self.tokens:,} tokens{left}"


@dataclass(frozen=True)
class Pieces:
    """The usable files of a source by name, and why the others are not."""

    source: str
    names: list[str]
    music: list[Music]
    skipped: dict[str, str]

    def some(self, numbers: Sequence[int], *, skipped: bool) -> Pieces:
        names, music = [self.names[n] for n in numbers], [self.music[n] for n in numbers]
        return Pieces(self.source, names, music, self.skipped if skipped else {})

    def report(self, events: Events) -> Report:
        return Report(
            self.source, self.names, len(self.music), sum(m.bars for m in self.music),
            sum(len(m.notes) for m in self.music),
            sum(len(part) for m in self.music for part in events.encode(m)),
            self.skipped,
            [hashlib.sha256(m.notes.tobytes()).hexdigest() for m in self.music],
        )  # fmt: skip


def files_in(text: str, bases: Sequence[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each MIDI file in a folder, zip or list, or of the one file, by name; of
    too large ones only so much that reading them says so.

    Raises:
        DataError: nothing is there, or it is none of these.
    """
    if whole := parts_of(text):
        for part in whole:
            yield from files_in(part, bases)
        return
    archive, inner = zip_folder(text, bases) or (find_path(text, bases), "")
    suffix = archive.suffix.lower()
    if suffix == ".zip":
        yield from _in_zip(archive, inner)
    elif archive.is_dir():
        for path in sorted(archive.rglob("*")):
            name = path.relative_to(archive)
            if path.suffix.lower() in ENDINGS and not any(map(is_hidden, name.parts)):
                yield clean_name(name.as_posix()), _bytes(path)
    elif suffix in ENDINGS:
        yield clean_name(archive.name), _bytes(archive)
    elif suffix == ".txt":
        try:
            lines = archive.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{archive}: is no list of files in UTF-8: {error}") from error
        for line in lines:
            if line.strip():
                yield clean_name(line.strip()), _bytes(archive.parent / line.strip())
    else:
        raise DataError(f"{text!r} is no folder, zip, MIDI file or .txt list of MIDI files")


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"{path}: is no file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _in_zip(archive: Path, inner: str) -> Iterator[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(archive) as whole:
            names = sorted(whole.namelist())
            if len(names) > MAX_FILES:
                raise DataError(
                    f"{archive}: holds {len(names):,} files, the limit is {MAX_FILES:,}"
                )
            for name in names:
                inside = name.startswith(f"{inner}/") or not inner
                if (
                    inside
                    and name.lower().endswith(ENDINGS)
                    and not any(map(is_hidden, name.split("/")))
                ):
                    with whole.open(name) as file:
                        yield clean_name(name), file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise DataError(f"{archive}: is no zip that can be read: {error}") from error


def read_pieces(
    sources: str | Sequence[str], events: Events, *, bases: Sequence[Path] = (), key: str = "data"
) -> Pieces:
    """Every usable piece of one source or several.

    Raises:
        DataError: there is none; says why not.
    """
    found = Pieces(sources if isinstance(sources, str) else ", ".join(sources), [], [], {})
    for source in [sources] if isinstance(sources, str) else sources:
        try:
            for name, data in files_in(source, bases):
                try:
                    music = on_grid(read_midi(data, name), events, name)
                except DataError as error:
                    found.skipped[name] = error.message.removeprefix(f"{name}: ")
                else:
                    found.names.append(name)
                    found.music.append(music)
        except DataError as error:
            raise DataError(f"{key}: {error.message}", hint=error.hint) from error
    if not found.music:
        reasons = "; ".join(f"{n} {why}" for n, why in list(found.skipped.items())[:LISTED])
        none = f"none of {len(found.skipped):,} MIDI files can be used: {reasons}"
        none = none if found.skipped else "there are no MIDI files (.mid, .midi)"
        raise DataError(f"{key}: {found.source}: {none}")
    return found


def transposed(music: Music, semitones: int) -> Music:
    """The piece in another key; drums stay, and all of it where a pitch would leave 0 to 127."""
    notes = music.notes.copy()
    pitched = notes[:, 3] != INSTRUMENTS - 1
    notes[pitched, 2] += semitones
    if len(notes) and not 0 <= int(notes[:, 2].min()) <= int(notes[:, 2].max()) <= 127:
        return music
    key = music.key // 12 * 12 + (music.key + semitones) % 12
    return Music(notes, music.resolution, music.beats_per_bar, music.bars, music.tempo, key)


class Rows:
    """Each piece in stretches of `context` events, all behind its head."""

    def __init__(self, music: Sequence[Music], events: Events, context: int) -> None:
        self.music, self.events, self.context = music, events, context
        self.rows = [self._encode(piece) for piece in music]
        head = len(events.head(music[0]))
        self.step = context + 1 - head
        self.places = [
            (number, start)
            for number, row in enumerate(self.rows)
            for start in range(0, max(len(row) - head - 1, 1), self.step)
        ]

    def _encode(self, piece: Music) -> Tensor:
        parts = self.events.encode(piece)
        return torch.tensor([*(e for part in parts for e in part), self.events.offsets["end"]])

    def __len__(self) -> int:
        return len(self.places)

    def item(self, row: Tensor, start: int) -> dict[str, Tensor]:
        """The events from a place behind the head on; the head is learned with the first."""
        head = len(row[:3])
        part = torch.cat([row[:head], row[head + start :][: self.step]])
        target = part[1:].clone()
        if start:
            target[: head - 1] = IGNORE
        short = self.context - len(target)
        pad = torch.nn.functional.pad
        return {
            "tokens": pad(part[:-1], (0, short)),
            "target": pad(target, (0, short), value=IGNORE),
        }

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, start = self.places[index]
        return self.item(self.rows[number], start)


class Drawn:
    """Training rows: a stretch of a piece that begins with a bar, in a key of its own."""

    def __init__(self, rows: Rows, transpose: int) -> None:
        self.rows, self.transpose = rows, transpose

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        index, seed = key
        number, start = self.rows.places[index]
        draw = np.random.default_rng(seed)
        semitones = int(draw.integers(-self.transpose, self.transpose + 1))
        row = self.rows._encode(transposed(self.rows.music[number], semitones))
        if start:
            bars = (row[3:] == self.rows.events.offsets["bar"]).nonzero()[:, 0]
            low, high = start - self.rows.step // 2, start + self.rows.step // 2
            near = bars[(bars >= low) & (bars <= high)]
            start = int(near[int(draw.integers(len(near)))]) if len(near) else start
        return self.rows.item(row, start)


class Data:
    """Training and validation rows, split by file; every file is read when this is built.

    With the `spec` of a checkpoint only what validates is kept, on the grid of the model.

    Raises:
        DataError: a source is absent, or no file in it can be used.
    """

    val_batch_size = None

    def __init__(
        self,
        config: Config,
        *,
        seed: int = 0,
        bases: Sequence[Path] = (),
        spec: MusicSpec | None = None,
    ) -> None:
        self.spec = spec or MusicSpec(config.context, config.resolution, config.beats_per_bar)
        events = Events(self.spec.resolution, self.spec.beats_per_bar)
        held = HeldOut.parse(config.val)
        parts: dict[str, Pieces] = {}
        if held is None:
            parts["data.val"] = read_pieces(config.val, events, bases=bases, key="data.val")
        if held is not None or spec is None:
            train = read_pieces(config.train, events, bases=bases, key="data.train")
            if held is not None:
                count = len(train.music)
                if count < 2:
                    raise DataError(
                        f"data.train: one piece in {train.source!r} cannot train and validate",
                        hint="give more, or set data.val",
                    )
                out = set(held.numbers(count))
                parts["data.val"] = train.some(sorted(out), skipped=False)
                rest = [number for number in range(count) if number not in out]
                train = train.some(rest, skipped=True)
            parts["data.train"] = train
        self.val = Rows(parts["data.val"].music, events, self.spec.context)
        if spec is None:
            rows = Rows(parts["data.train"].music, events, self.spec.context)
            self.train = Drawn(rows, config.transpose)
        self.pieces = parts
        self.report = {key: parts[key].report(events) for key in sorted(parts)}

    def start_background(self) -> None:
        """Nothing is prepared ahead."""

    def stop_background(self) -> None:
        """Nothing is prepared ahead."""


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """MIDI files."""
    values = parts(source, bases)
    try:
        count = sum(1 for _ in files_in(values["train"], bases=bases))
    except DataError:
        return None
    return Claim(values, f"{count:,} MIDI files", MARKED) if count else None


def fit(config: Config, *, bases: Sequence[Path] = ()) -> Fit:
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
