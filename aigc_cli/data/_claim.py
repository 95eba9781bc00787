"""What `aigc train DATA --budget` learns of a source before it chooses a family: which kinds of
data read it, with which values, and why.

A kind of data may have `recognize(source, bases=())`, which returns a `Claim`, or None where the
source is not of its kind. It looks at a few items only: `suggest` and `Data` look at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from aigc_cli.catalog.builtin import PREFIX, builtins
from aigc_cli.catalog.entry import load, names
from aigc_cli.data._names import is_hidden
from aigc_cli.data._paths import find_path, find_shards
from aigc_cli.data._sources import Source, open_source, subfolders
from aigc_cli.data._text_files import Record, open_texts
from aigc_cli.errors import DataError
from aigc_cli.media.image import Raster

HELD_OUT = ("val", "valid", "validation", "dev", "test")
"""Names of parts that validate, the best first."""
BESIDE = ("LICENSE", "README", "NOTICE")
"""How files begin that lie beside data and are none."""
SEEN = 24  # images of a source that are looked at
READ = 400  # texts

POSSIBLE, LIKELY, STRUCTURED, MARKED = range(4)
"""How much speaks for a kind: nothing against it; the things are as it wants them; they have parts
that it wants, such as classes; the source says so itself, such as by names that nothing else has.
"""


@dataclass(frozen=True)
class Claim:
    """A kind of data that reads a source."""

    values: Mapping[str, Any]
    """Of its config: `train`, and whatever else the source asks for."""
    why: str
    """What was seen, for people."""
    strength: int = POSSIBLE
    facts: frozenset[str] = field(default_factory=frozenset)
    """What a family may need or use: see `Dial` in recipe/dial.py."""


def parts(source: str, bases: Sequence[Path] = ()) -> dict[str, str]:
    """`train`, and `val` where there is one, of a source that keeps them apart: of a built-in set,
    a set of the catalog, or a folder with folders or files of these names. Else all of it trains;
    of a folder with one thing, that thing.
    """
    known = _named_parts(source, bases)
    if "train" not in known:
        data = [path for name, path in known.items() if not name.upper().startswith(BESIDE)]
        return {"train": data[0] if len(data) == 1 else source}
    val = next((name for name in HELD_OUT if name in known), None)
    return {"train": known["train"]} | ({"val": known[val]} if val else {})


def _named_parts(source: str, bases: Sequence[Path]) -> dict[str, str]:
    """What lies in a source by its name without endings; names that stand twice are left out."""
    if source.startswith(PREFIX):
        name, _, part = source.removeprefix(PREFIX).partition(":")
        inside = builtins()[name].parts if name in builtins() and not part else {}
        return {part: f"{source}:{part}" for part in inside}
    if source in names() and not Path(source).exists():
        return {part: f"{source}/{part}" for part in load(source).parts}
    found: dict[str, list[str]] = {name: [f"{source}/{name}"] for name in subfolders(source, bases)}
    for file in files_in(source, bases):
        found.setdefault(file.name.split(".")[0], []).append(f"{source}/{file.name}")
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def files_in(source: str, bases: Sequence[Path] = ()) -> list[Path]:
    """Files that lie directly in a folder; none when it is something else."""
    try:
        if find_shards(source, bases):
            return []
        path = find_path(source, bases)
        return sorted(p for p in path.iterdir() if p.is_file() and not is_hidden(p.name))
    except (DataError, OSError):
        return []


def couple(source: str, bases: Sequence[Path] = ()) -> tuple[str, str] | None:
    """The two folders, or parts of a built-in set, that a source consists of."""
    known = _named_parts(source, bases) if source.startswith(PREFIX) else {}
    inside = list(known.values()) or [f"{source}/{name}" for name in subfolders(source, bases)]
    return (inside[0], inside[1]) if len(inside) == 2 else None


@dataclass(frozen=True)
class Pictures:
    """A few of the images of a source."""

    source: Source
    seen: list[Raster]

    @property
    def side(self) -> int:
        """The shorter side of half of them, in pixels."""
        return sorted(min(image.pixels.shape[:2]) for image in self.seen)[len(self.seen) // 2]

    @property
    def in_color(self) -> bool:
        return any(image.pixels.shape[2] == 3 for image in self.seen)

    @property
    def classes(self) -> int:
        """How many there are, where each has some images; else 0."""
        labels = self.source.labels()
        count = len(set(labels or ()))
        return count if 2 <= count <= len(self.source) // 4 else 0

    def __str__(self) -> str:
        color = "color" if self.in_color else "gray"
        classes = f" of {self.classes} classes" if self.classes else ""
        return f"{len(self.source):,} {color} images{classes}, about {self.side} pixels"


def look_at(source: str, bases: Sequence[Path]) -> Pictures | None:
    """Some images of a source, evenly spread; None where it holds none that can be decoded."""
    try:
        opened = open_source(source, bases=bases)
        count = min(SEEN, len(opened))
        numbers = {number * len(opened) // count for number in range(count)}
    except (DataError, ZeroDivisionError):
        return None
    seen = []
    for number in sorted(numbers):
        try:
            seen.append(opened.read(number))
        except DataError:  # said by whoever trains on it
            continue
    return Pictures(opened, seen) if seen else None


def first_records(source: str, bases: Sequence[Path]) -> list[Record]:
    """The first texts of a source; none where it holds no texts."""
    try:
        return [record for _, record in islice(open_texts(source, bases=bases).records(), READ)]
    except DataError:
        return []


def columns(records: Sequence[Record]) -> dict[str | int, list[Any]]:
    """The values by key or number of column of records that all have them; none of plain lines."""
    rows = [
        record if isinstance(record, dict) else dict(enumerate(record))
        for record in records
        if not isinstance(record, str)
    ]
    if not rows or len(rows) < len(records):
        return {}
    shared = [key for key in rows[0] if all(key in row for row in rows)]
    return {key: [row[key] for row in rows] for key in shared}  # type: ignore[index]


def written(values: Sequence[Any]) -> bool:
    """Whether a column holds texts, or lists of texts: mostly different ones, not marks."""
    flat = [" ".join(v) if isinstance(v, list) and all(map(_is_text, v)) else v for v in values]
    if not all(map(_is_text, flat)) or len(set(flat)) <= 0.5 * len(flat):
        return False
    return sum(" " in text or not text.isascii() for text in flat) > 0.3 * len(flat)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
