"""Every image is decoded once before the first step, so that no run dies of its data later on."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from itertools import chain
from multiprocessing import current_process, get_context
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import numpy as np
import PIL
from numpy.typing import NDArray

from aigc_cli.data._cache import digest
from aigc_cli.data._seen import Seen, Seens
from aigc_cli.data._sources import Source
from aigc_cli.errors import AigcError, DataError, Problem
from aigc_cli.media.files import write_bytes
from aigc_cli.media.image import Raster

LISTED = 20  # bad files that a message names; `problems` has all
FORMAT = 4  # of what a check remembers of an image
_CHUNK = 64  # images a thread or process takes at a time
_MANY = 2000  # images from which on processes pay

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """What is in a source: usable images by number, and the others as (name, reason)."""

    source: Source = field(compare=False)
    seen: Mapping[int, Seen]
    bad: list[tuple[str, str]] = field(default_factory=list)
    fingerprints: Mapping[int, str] = field(default_factory=dict, compare=False)
    """Of each usable image, from before it was decoded."""

    @property
    def modes(self) -> dict[str, int]:
        return Seens.of(self.seen).counts()

    @property
    def sizes(self) -> dict[str, list[int]]:
        """[width, height] of the smallest, the median and the largest image by area."""
        return Seens.of(self.seen).sizes()

    @property
    def content(self) -> str:
        """Digest of all pixels and classes, wherever the images lie."""
        state = blake2b(repr(self.source.labels()).encode(errors="surrogateescape"))
        for text in Seens.of(self.seen).texts():
            state.update(text)
        return state.hexdigest()

    def as_dict(self) -> dict[str, Any]:
        bad = [{"name": name, "reason": reason} for name, reason in self.bad]
        return {
            "source": self.source.text,
            "pictures": len(self.seen),
            "sizes": self.sizes,
            "modes": self.modes,
            "other_files": dict(self.source.skipped),
            "bad": bad,
        }


class BadImagesError(DataError):
    """Images that cannot be used: `problems` names each, the message the first LISTED of them."""

    code = "data.bad_pictures"

    def __init__(self, reports: Mapping[str, Report], *, hint: str) -> None:
        self.reports = reports
        self._problems = [
            Problem(reason, code=self.code, file=name, key=key)
            for key, report in reports.items()
            for name, reason in report.bad
        ]
        total = sum(len(report.seen) + len(report.bad) for report in reports.values())
        count = f"{len(self._problems)} of {total} images cannot be used"
        super().__init__(f"{count}\n{bad_table(reports)}", hint=hint)

    @property
    def problems(self) -> list[Problem]:
        return self._problems


def check(
    source: Source,
    numbers: Sequence[int],
    *,
    unfit: Callable[[Seen], str | None] = lambda seen: None,
    cache: Path | None = None,
) -> Report:
    """Decode the images `numbers` of `source`, in several threads or, if many, processes.

    `unfit` may say why a readable image cannot be used. With a cache folder, what was seen is
    remembered until the file changes; failures are not, as their cause may lie outside the file.
    What a source knows already, as shards do, is not decoded again.
    """
    if (known := source.seen(numbers)) is not None:
        return _judged(source, known, unfit)
    memory = _Memory(source, numbers, cache)
    seen: dict[int, Seen] = {}
    bad: list[tuple[str, str]] = []
    for number, result in zip(numbers, _look(source, numbers, memory.known), strict=True):
        if isinstance(result, Seen):
            memory.known[number] = result
        reason = result if isinstance(result, str) else unfit(result)
        if reason is not None:
            bad.append((source.name(number), reason))
        elif isinstance(result, Seen):
            seen[number] = result
    memory.save()
    return Report(source, seen, bad, {number: memory.fingerprints[number] for number in seen})


def _judged(source: Source, known: Seens, unfit: Callable[[Seen], str | None]) -> Report:
    reasons = known.reasons(unfit)
    numbers = known.numbers
    bad = [(source.name(int(numbers[place])), reason) for place, reason in reasons.items()]
    if reasons:
        known = known.take(np.setdiff1d(np.arange(len(known)), list(reasons)))
    return Report(source, known, bad, Fingerprints(source, known.numbers))


class Fingerprints(Mapping[int, str]):
    """Those of a source that cannot change unseen, read when they are asked for."""

    def __init__(self, source: Source, numbers: NDArray[np.int64]) -> None:
        self._source, self._numbers = source, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[int]:
        return map(int, self._numbers)

    def __getitem__(self, number: int) -> str:
        return self._source.fingerprint(number)


def without(report: Report, reasons: Mapping[int, str]) -> Report:
    """The report in which images that were usable one by one are bad, each for its reason."""
    seen = {number: seen for number, seen in report.seen.items() if number not in reasons}
    bad = [(report.source.name(number), reason) for number, reason in reasons.items()]
    return Report(report.source, seen, report.bad + bad, report.fingerprints)


def at_least(size: int) -> Callable[[Seen], str | None]:
    """Unfit are images with a side below `size`."""

    def unfit(seen: Seen) -> str | None:
        if min(seen.height, seen.width) >= size:
            return None
        return f"{seen.width} x {seen.height}, smaller than {size} x {size}"

    return unfit


def require_good(reports: Mapping[str, Report], on_error: Literal["stop", "skip"]) -> None:
    """Stop at bad images unless they are to be skipped, and always when no image is left.

    `reports` is keyed by the recipe key that names the source.

    Raises:
        BadImagesError: one table of all of them.
    """
    if on_error == "stop" and any(report.bad for report in reports.values()):
        raise BadImagesError(reports, hint="repair or remove them, or set data.on_error=skip")
    if empty := [key for key, report in reports.items() if not report.seen]:
        raise BadImagesError(reports, hint=f"no image is left in {' and '.join(empty)}")
    if skipped := bad_table(reports):
        log.warning("images that are left out:\n%s", skipped)


def bad_table(reports: Mapping[str, Report]) -> str:
    """One line for each bad image, at most LISTED of them."""
    rows = [
        (f"{key}: {name}", reason) for key, report in reports.items() for name, reason in report.bad
    ]
    width = max((len(name) for name, _ in rows[:LISTED]), default=0)
    lines = [f"  {name:<{width}}  {reason}" for name, reason in rows[:LISTED]]
    if len(rows) > LISTED:
        lines.append(f"  and {len(rows) - LISTED} more")
    return "\n".join(lines)


def _look(
    source: Source, numbers: Sequence[int], known: Mapping[int, Seen]
) -> Iterator[Seen | str]:
    """For each image what was seen, or why it cannot be used."""
    new = [number for number in numbers if number not in known]
    chunks = [new[i : i + _CHUNK] for i in range(0, len(new), _CHUNK)]
    fresh = _by_processes(source, chunks) if _forks(len(new)) else _by_threads(source, chunks)
    results = chain.from_iterable(fresh)
    for number in numbers:
        yield known[number] if number in known else next(results)


def _by_threads(source: Source, chunks: Sequence[Sequence[int]]) -> Iterator[list[Seen | str]]:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        yield from threads.map(partial(_decode_all, source), chunks)


def _by_processes(source: Source, chunks: Sequence[Sequence[int]]) -> Iterator[list[Seen | str]]:
    """As `_by_threads`, which small images make wait for each other."""
    global _shared
    _shared = source  # inherited, never pickled
    count = min(8, len(os.sched_getaffinity(0)))
    pool = ProcessPoolExecutor(count, get_context("fork"), initializer=_begin_worker)
    done = 0
    try:
        for result in pool.map(_decode_shared, chunks):
            yield result
            done += 1
    except BrokenProcessPool:  # one was killed, perhaps for its memory
        yield from _by_threads(source, chunks[done:])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        _shared = None


_shared: Source | None = None


def _forks(count: int) -> bool:
    """Whether processes are worth it, and can be had: a daemon may have none."""
    return (
        count >= _MANY
        and sys.platform == "linux"
        and len(os.sched_getaffinity(0)) > 1
        and not current_process().daemon
    )


def _begin_worker() -> None:
    """The parent is who ends on a signal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _decode_shared(numbers: Sequence[int]) -> list[Seen | str]:
    assert _shared is not None
    return _decode_all(_shared, numbers)


def _decode_all(source: Source, numbers: Sequence[int]) -> list[Seen | str]:
    return [_decode(source, number) for number in numbers]


def _decode(source: Source, number: int) -> Seen | str:
    try:
        picture = source.read(number)
    except DataError as error:
        return error.message.removeprefix(f"{source.name(number)}: ")
    content = crc32(np.ascontiguousarray(picture.pixels).data)
    if picture.alpha is not None:
        content = crc32(np.ascontiguousarray(picture.alpha).data, content)
    return Seen(picture.height, picture.width, _mode(picture), content)


def _mode(picture: Raster) -> str:
    pixels = picture.pixels
    gray = picture.channels == 1 or bool((pixels == pixels[..., :1]).all())
    color = "gray" if gray else "RGB"
    alpha = "A" if picture.alpha is not None else ""
    return color + alpha + (" 16-bit" if picture.bits == 16 else "")


class _Memory:
    """What earlier checks saw, by the fingerprint of each image; one JSON file a source."""

    def __init__(self, source: Source, numbers: Sequence[int], cache: Path | None) -> None:
        self.known: dict[int, Seen] = {}
        self._source = source
        self.fingerprints = {number: source.fingerprint(number) for number in numbers}
        self._path: Path | None = None
        if cache is None:
            return
        self._keys = {number: _key(mark) for number, mark in self.fingerprints.items()}
        name = digest([FORMAT, source.fingerprint(0), PIL.__version__])
        self._path = cache / "checks" / f"{name}.json"
        self._rows = _read(self._path)
        for number, key in self._keys.items():
            if (row := self._rows.get(key)) and row[0] * row[1] <= source.max_pixels:
                self.known[number] = Seen(*row)
        self._saved = len(self.known)

    def save(self) -> None:
        """Write what is known of this source; a disk that is full is no error here."""
        if self._path is None or len(self.known) == self._saved:
            return
        rows = self._rows | {
            self._keys[i]: (s.height, s.width, s.mode, s.content) for i, s in self.known.items()
        }
        if len(rows) > 2 * len(self._source):  # most are of images that are no more
            marks = (self._source.fingerprint(n) for n in range(len(self._source)))
            present = {_key(mark) for mark in marks}
            rows = {key: row for key, row in rows.items() if key in present}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(self._path, json.dumps(rows).encode())
        except (OSError, AigcError) as error:
            log.debug("the check is not remembered: %s", error)


def _key(fingerprint: str) -> str:
    text = f"{FORMAT} {PIL.__version__} {fingerprint}"
    return blake2b(text.encode(errors="surrogateescape"), digest_size=16).hexdigest()


def _read(path: Path) -> dict[str, tuple[int, int, str, int]]:
    """The rows of a memory file; nothing when it is absent or damaged."""
    try:
        rows = json.loads(path.read_bytes())
        return {key: (int(h), int(w), str(mode), int(c)) for key, (h, w, mode, c) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
