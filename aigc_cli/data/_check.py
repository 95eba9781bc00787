"""Every picture is decoded once before the first step, so that no run dies of its data later on."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median_low
from typing import Any, Literal

import PIL

from aigc_cli.data._cache import digest
from aigc_cli.data._sources import Source
from aigc_cli.errors import AigcError, DataError
from aigc_cli.media.files import write_bytes
from aigc_cli.media.image import Picture

LISTED = 20  # bad files that a message names; the report has all
_CHUNK = 64  # pictures a thread takes at a time

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seen:
    """What decoding one picture showed."""

    height: int
    width: int
    mode: str
    """gray or RGB, `A` when it has transparency, and its bits when they are 16."""


@dataclass(frozen=True)
class Report:
    """What is in a source: `seen` for each usable picture by number, `bad` for the rest by name."""

    text: str
    seen: dict[int, Seen]
    bad: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> list[int]:
        return list(self.seen)

    @property
    def modes(self) -> dict[str, int]:
        return dict(Counter(seen.mode for seen in self.seen.values()).most_common())

    def as_dict(self) -> dict[str, Any]:
        """Counts, [width, height] of the smallest, median and largest picture, modes, bad files."""
        sizes = sorted(
            ([s.width, s.height] for s in self.seen.values()), key=lambda wh: (wh[0] * wh[1], wh)
        )
        summary = (
            {"min": sizes[0], "median": median_low(sizes), "max": sizes[-1]} if sizes else None
        )
        bad = [{"name": name, "reason": reason} for name, reason in self.bad.items()]
        return {
            "source": self.text,
            "pictures": len(self.seen),
            "sizes": summary,
            "modes": self.modes,
            "bad": bad,
        }


def check(
    source: Source, numbers: Sequence[int], *, min_size: int = 1, cache: Path | None = None
) -> Report:
    """Decode the pictures `numbers` of `source`, in several threads.

    Pictures with a side below `min_size` are bad. With a cache folder, what was seen is remembered
    until the file changes; failures are not, as the reason may go away without a trace in the file.
    """
    memory = _Memory(source, cache)
    seen: dict[int, Seen] = {}
    bad: dict[str, str] = {}
    for index, result in zip(numbers, _look(source, numbers, memory.known), strict=True):
        if isinstance(result, Seen) and min(result.height, result.width) < min_size:
            size = f"{result.width}x{result.height}"
            bad[source.name(index)] = f"{size} is smaller than {min_size}x{min_size}"
        elif isinstance(result, Seen):
            seen[index] = result
        else:
            bad[source.name(index)] = result
        if isinstance(result, Seen):
            memory.learn(index, result)
    memory.save()
    return Report(source.text, seen, bad)


def require_good(reports: dict[str, Report], on_error: Literal["stop", "skip"]) -> None:
    """Stop at bad pictures unless they are to be skipped, and always when no picture is left.

    `reports` is keyed by the recipe key that names the source.

    Raises:
        DataError: one table of all the bad pictures.
    """
    rows = [
        (f"{key}: {name}", reason)
        for key, report in reports.items()
        for name, reason in report.bad.items()
    ]
    if rows and on_error == "stop":
        total = sum(len(r.seen) + len(r.bad) for r in reports.values())
        raise DataError(
            f"{len(rows)} of {total} pictures cannot be used\n{_table(rows)}",
            hint="repair or remove them, or set data.on_error=skip",
        )
    for key, report in reports.items():
        if not report.seen:
            raise DataError(f"{key}: no usable picture in {report.text!r}\n{_table(rows)}")
    if rows:
        log.warning("%d pictures are skipped\n%s", len(rows), _table(rows))


def _table(rows: Sequence[tuple[str, str]]) -> str:
    shown = rows[:LISTED]
    width = max((len(name) for name, _ in shown), default=0)
    lines = [f"  {name:<{width}}  {reason}" for name, reason in shown]
    if len(rows) > LISTED:
        lines.append(f"  and {len(rows) - LISTED} more")
    return "\n".join(lines)


def _look(source: Source, numbers: Sequence[int], known: dict[int, Seen]) -> Iterator[Seen | str]:
    """For each picture what was seen, or why it cannot be used."""

    def look(chunk: Sequence[int]) -> list[Seen | str]:
        return [known.get(index) or _decode(source, index) for index in chunk]

    chunks = [numbers[i : i + _CHUNK] for i in range(0, len(numbers), _CHUNK)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        for results in threads.map(look, chunks):
            yield from results


def _decode(source: Source, index: int) -> Seen | str:
    try:
        picture = source.read(index)
    except DataError as error:
        return error.message.removeprefix(f"{source.name(index)}: ")
    return Seen(picture.height, picture.width, _mode(picture))


def _mode(picture: Picture) -> str:
    color = "RGB" if picture.channels == 3 else "gray"
    alpha = "A" if picture.alpha is not None else ""
    return color + alpha + (" 16-bit" if picture.bits == 16 else "")


class _Memory:
    """What earlier checks saw, by the fingerprint of each picture; one JSON file a source."""

    def __init__(self, source: Source, cache: Path | None) -> None:
        self.known: dict[int, Seen] = {}
        self._path: Path | None = None
        if cache is None:
            return
        self._keys = [digest([source.fingerprint(i), PIL.__version__]) for i in range(len(source))]
        self._path = cache / "checks" / f"{self._keys[0]}.json"
        old = _read(self._path)
        for index, key in enumerate(self._keys):
            if (seen := old.get(key)) and seen.height * seen.width <= source.max_pixels:
                self.known[index] = seen
        self._saved = len(self.known)

    def learn(self, index: int, seen: Seen) -> None:
        self.known[index] = seen

    def save(self) -> None:
        """Write what is known of the present pictures; a disk that is full is no error here."""
        if self._path is None or len(self.known) == self._saved:
            return
        rows = {self._keys[i]: [s.height, s.width, s.mode] for i, s in self.known.items()}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, json.dumps(rows).encode())
        except (OSError, AigcError) as error:
            log.debug("the check is not remembered: %s", error)


def _read(path: Path) -> dict[str, Seen]:
    """The rows of a memory file; nothing when it is absent or damaged."""
    try:
        rows = json.loads(path.read_bytes())
        return {key: Seen(int(h), int(w), str(mode)) for key, (h, w, mode) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
