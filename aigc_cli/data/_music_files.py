"""Where pieces of music come from, and what is told of them: shared by all kinds made of music."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from aigc_cli.catalog.builtin import parts_of as builtin_parts
from aigc_cli.data import _named_files
from aigc_cli.data._cache import digest
from aigc_cli.data._images import Sources
from aigc_cli.data._rows import HeldOut
from aigc_cli.errors import DataError
from aigc_cli.media import musicxml
from aigc_cli.media.midi import MAX_BYTES
from aigc_cli.media.score import tunes
from aigc_cli.recipe.sections import Name, Section

ENDINGS = (".mid", ".midi", ".abc", *musicxml.ENDINGS)
LISTED = 5  # skipped files that a message names

T = TypeVar("T")
AnySources = str | Sequence[str] | Mapping[str, str | Sequence[str]]


PieceSources = Sources | dict[Name, Sources]


class PieceConfig(Section):
    """What all kinds of data share that read whole pieces onto a grid."""

    modality: ClassVar[str] = "music"

    train: PieceSources
    """A folder, zip, MIDI file, .txt list or hf:NAME to train on, or several; or those of each
    class by its name, which becomes their folder.
    """
    val: PieceSources = "10%"
    """The same to validate with, or the share of the files of `train` that is held out: `10%` is
    every tenth file, `last 10%` those whose names come last.
    """
    resolution: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 4
    """Steps of a quarter; 4 are sixteenths, 12 also have triplets."""
    beats_per_bar: int = Field(4, ge=1, le=12)
    """Quarters of a bar; files in a meter that does not fit into it are skipped."""


@dataclass(frozen=True)
class Report:
    """What was found in a source, and what was left out and why."""

    source: str
    names: list[str]
    counts: dict[str, int]
    """Of pieces, bars, notes and what a model reads, by the name of the thing."""
    skipped: dict[str, str] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    """Of the notes of each piece."""

    @property
    def content(self) -> str:
        return digest(self.digests)

    def as_dict(self) -> dict[str, Any]:
        return {
            "source": self.source, "names": self.names, **self.counts,
            "counted": list(self.counts), "skipped": self.skipped, "digests": self.digests,
        }  # fmt: skip

    def __str__(self) -> str:
        counts = [f"{count:,} {name}" for name, count in self.counts.items()]
        return ", ".join([*counts, *([f"{len(self.skipped):,} skipped"] * bool(self.skipped))])


@dataclass(frozen=True)
class Pieces(Generic[T]):
    """The usable pieces of a source by name, and why the others are not."""

    source: str
    names: list[str]
    music: list[T]
    skipped: dict[str, str]

    def some(self, numbers: Sequence[int], *, skipped: bool) -> Pieces[T]:
        names, music = [self.names[n] for n in numbers], [self.music[n] for n in numbers]
        return Pieces(self.source, names, music, self.skipped if skipped else {})


def listed(source: AnySources) -> list[tuple[str, str]]:
    """The sources of a recipe's key, each behind what names of its pieces begin with."""
    if isinstance(source, Mapping):
        return [(f"{name}/", one) for name, more in source.items() for _, one in listed(more)]
    return [("", one) for one in ([source] if isinstance(source, str) else source)]


def files_in(text: str, bases: Sequence[Path] = ()) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each MIDI file, each score in MusicXML, and each tune in ABC, in a folder,
    zip or list, or of the one file, by name; of too large ones only so much that reading them says
    so.

    Raises:
        DataError: nothing is there, or it is none of these.
    """
    for name, data in _files(text, bases):
        if not name.lower().endswith(".abc"):
            yield name, data
            continue
        cut = [(f"{name}:{number}", tune) for number, tune in tunes(data)]
        yield from cut or [(name, data)]


def _files(text: str, bases: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    if whole := builtin_parts(text):
        for part in whole:
            yield from _files(part, bases)
        return
    yield from _named_files.files_in(text, ENDINGS, MAX_BYTES, "MIDI file", bases)


def gather(
    sources: AnySources,
    read: Callable[[str], Iterator[tuple[str, T | DataError]]],
    *,
    key: str = "data",
) -> Pieces[T]:
    """Every usable piece of one source or several; `read` gives those of one, by name, or what is
    wrong with them. Of sources by name, that name is the folder of their pieces.

    Raises:
        DataError: there is none; says why not.
    """
    found: Pieces[T] = Pieces(", ".join(one for _, one in listed(sources)), [], [], {})
    for folder, source in listed(sources):
        try:
            for name, piece in read(source):
                if isinstance(piece, DataError):
                    found.skipped[folder + name] = piece.message.removeprefix(f"{name}: ")
                else:
                    found.names.append(folder + name)
                    found.music.append(piece)
        except DataError as error:
            raise DataError(f"{key}: {error.message}", hint=error.hint) from error
    if not found.music:
        reasons = "; ".join(f"{n} {why}" for n, why in list(found.skipped.items())[:LISTED])
        none = f"none of {len(found.skipped):,} files can be used: {reasons}"
        none = (
            none
            if found.skipped
            else "there are no MIDI files (.mid), tunes (.abc) or scores (.musicxml, .mxl)"
        )
        raise DataError(f"{key}: {found.source}: {none}")
    return found


def parts_of(
    train: AnySources,
    val: AnySources,
    opened: Callable[[AnySources, str], Pieces[T]],
    *,
    val_only: bool,
) -> dict[str, Pieces[T]]:
    """What `opened` finds in `data.train` and then `data.val`, or in shares of the first; with
    `val_only` what validates alone.

    Raises:
        DataError: as `opened`; one piece would have to train and validate.
    """
    by_class = isinstance(val, Mapping)
    held = None if by_class else HeldOut.parse(val if isinstance(val, str) else tuple(val))
    if held is None:
        parts = {} if val_only else {"data.train": opened(train, "data.train")}
        return {**parts, "data.val": opened(val, "data.val")}
    whole = opened(train, "data.train")
    count = len(whole.music)
    if count < 2:
        raise DataError(
            f"data.train: one piece in {whole.source!r} cannot train and validate",
            hint="give more, or set data.val",
        )
    out = set(held.numbers(count))
    rest = [number for number in range(count) if number not in out]
    parts = {} if val_only else {"data.train": whole.some(rest, skipped=True)}
    return {**parts, "data.val": whole.some(sorted(out), skipped=False)}
