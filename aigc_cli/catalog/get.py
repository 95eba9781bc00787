"""Get a data set of the catalog: fetched, verified, unpacked and made ready, then put in place.

All work is done in `.NAME.part` beside the place where the set will be, and one rename ends it, so
a folder NAME is always whole. What was fetched before a cut stays in `.NAME.part/fetched` and is
gone on with; nothing else does.
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256 as sha256_of
from pathlib import Path

from aigc_cli import __version__
from aigc_cli.catalog import consent, digests
from aigc_cli.catalog.builtin import FOLDER, PREFIX, find_builtin
from aigc_cli.catalog.entry import Entry, FileList, Source, expand, load
from aigc_cli.catalog.fetch import Tick, below_mirror, disk_error, fetch
from aigc_cli.catalog.find import data_folder
from aigc_cli.catalog.prepare import PREPARE
from aigc_cli.catalog.stage import stage_for
from aigc_cli.catalog.unpack import unpack
from aigc_cli.errors import DataError, InputError, OutputError

RECORD = ".aigc.json"
AT_ONCE = 8  # small files that are fetched at the same time


@dataclass
class Got:
    """What was done: where the set is, and whether it was there before."""

    name: str
    path: Path
    license: str
    was_there: bool
    pinned: dict[str, str] = field(default_factory=dict)
    """Digests of files that had none, by address."""


def get(
    name: str,
    *,
    to: Path | None = None,
    mirror: str = "",
    accept: bool = False,
    originals: bool = False,
    tick: Tick = lambda _: None,
) -> Got:
    """The data set in `to/NAME`, or in the data folder; no network when it is there.

    With `originals` its files come to `to` as a mirror has them, under host and path, unprepared.

    Raises:
        InputError: no such set; its license or the lack of a digest is not accepted.
        DataError: what came is not what the catalog knows, or an archive is not harmless.
        OutputError: something else is in the way, or another process gets the set.
        RunError: no network. DiskFullError.
    """
    entry = load(name)
    parent = (to or data_folder()).expanduser().absolute()
    target = parent / name
    if not originals and _is_there(target, entry):
        return Got(name, target, entry.license, was_there=True)
    pins = consent.pins()
    if not accept:
        consent.require(name, entry, pins)
    if originals and to is None:
        raise InputError("--originals needs --to, the folder that becomes the mirror")
    if not originals and os.path.lexists(target):
        raise OutputError(
            f"{str(target)!r} is there and is not this data set of the catalog",
            hint="rename it, or name another folder with --to",
        )
    stage = parent / f".{name}.part"
    with stage_for(stage, entry.size):
        job = _Job(stage, mirror, tick, pins)
        for source in entry.sources:
            job.source(source)
        if originals:
            _keep_originals(job, parent)
        else:
            _finish(name, entry, job)
            os.replace(stage / "ready", target)
        consent.pin(job.pinned)
    return Got(name, parent if originals else target, entry.license, False, job.pinned)


def copy_builtin(text: str, to: Path) -> Path:
    """A built-in set, as files of the user's: `to/SET`. Raises as `get`."""
    name = text.removeprefix(PREFIX).partition(":")[0]
    find_builtin(f"{PREFIX}{name}")  # which knows what there is
    source, target = FOLDER / name, to / name
    if os.path.lexists(target):
        raise OutputError(f"{str(target)!r} exists", hint="name another folder with --to")
    try:
        shutil.copytree(source, target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise disk_error(error, target) from error
    return target


class _Job:
    """Fetches the sources of one entry into its stage."""

    def __init__(self, stage: Path, mirror: str, tick: Tick, pins: dict[str, str]) -> None:
        self.stage, self.mirror, self.tick, self.pins = stage, mirror, tick, pins
        self.pinned: dict[str, str] = {}
        self.fetched: dict[str, Path] = {}
        """Every file that was fetched, by address."""

    def source(self, source: Source) -> None:
        """Fetch and verify one source; its files come to `stage/unpacked`."""
        if source.archive:
            self._archive(source)
        else:
            for files in source.files:
                self._files(source, files)

    def _files(self, source: Source, files: FileList) -> None:
        paths = expand(files.path)
        one = files.size if files.count == 1 else None

        def fetch_one(path: str) -> Path:
            return self._fetch(source.address(path), one, files.is_verified)

        if len(paths) == 1:
            found = {paths[0]: fetch_one(paths[0])}
        else:
            with ThreadPoolExecutor(AT_ONCE) as threads:
                found = dict(zip(paths, threads.map(fetch_one, paths), strict=True))
        self._verify(files, found)
        for path, file in found.items():
            if not files.is_verified:
                self._pin(source.address(path), file)
            _link(file, self.stage / "unpacked" / source.place(files, path))

    def _archive(self, source: Source) -> None:
        file = self._fetch(source.archive, source.size, bool(source.sha256))
        if source.sha256:
            whole = FileList(path=source.archive.rpartition("/")[2], sha256=source.sha256)
            self._verify(whole, {source.archive: file})
        elif not source.is_verified:
            self._pin(source.archive, file)
        sizes = [files.size for files in source.files]
        most = None if None in sizes or not sizes else sum(size or 0 for size in sizes)
        chosen: list[dict[str, str]] = [{} for _ in source.files]

        def place(name: str) -> str | None:
            path = name.partition("/")[2] if source.rooted else name
            for number, files in enumerate(source.files):
                if matches(files.path, path):
                    chosen[number][name] = path
                    return source.place(files, path)
            return None if source.files else path.removeprefix(source.strip) or None

        try:
            found = unpack(file, self.stage / "unpacked", place, most=most)
        except DataError as error:
            self._forget([file])
            raise DataError(error.message.replace(file.name, source.archive)) from error
        for files, names in zip(source.files, chosen, strict=True):
            self._verify(files, {path: found[name] for name, path in names.items()})

    def _fetch(self, address: str, size: int | None, resume: bool) -> Path:
        file = self.stage / "fetched" / sha256_of(address.encode()).hexdigest()[:24]
        fetch(address, file, size=size, resume=resume, tick=self.tick, mirror=self.mirror)
        self.fetched[address] = file
        return file

    def _verify(self, files: FileList, found: dict[str, Path]) -> None:
        try:
            digests.verify(files, found)
        except DataError:
            self._forget(found.values())
            raise

    def _forget(self, files: Iterable[Path]) -> None:
        """What is wrong must not be gone on with by the next call."""
        for file in [*files, *self.fetched.values()]:
            file.unlink(missing_ok=True)

    def _pin(self, address: str, file: Path) -> None:
        seen = digests.sha256(file)
        consent.hold_to_pin(address, seen, self.pins)
        self.pinned[address] = seen


def matches(pattern: str, path: str) -> bool:
    """Whether a path is meant by a pattern of the catalog.

    >>> matches("{train,test}/*/*.jpg", "test/cat/1.jpg"), matches("train/*.jpg", "train/a/1.jpg")
    (True, False)
    """
    if pattern.endswith("/"):
        return path.startswith(pattern)
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern[3:])
    parts = path.split("/")
    for one in expand(pattern):
        wanted = one.split("/")
        if len(wanted) == len(parts) and all(map(fnmatch.fnmatchcase, parts, wanted)):
            return True
    return False


def _finish(name: str, entry: Entry, job: _Job) -> None:
    """`stage/ready`: the set as recipes read it, with its record."""
    ready, unpacked = job.stage / "ready", job.stage / "unpacked"
    if entry.prepare:
        ready.mkdir()
        PREPARE[entry.prepare](unpacked, ready)
    else:
        os.replace(unpacked, ready)
    missing = [path for path in entry.layout if not (ready / path).exists()]
    if missing:
        raise DataError(f"data set {name!r}: what came has no {missing[0]!r}, which it should have")
    record = {
        "name": name,
        "title": entry.title,
        "license": entry.license,
        "citation": entry.citation,
        "catalog": _digest(entry),
        "got": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": f"aigc {__version__}",
        "files": {address: digests.sha256(file) for address, file in job.fetched.items()},
    }
    (ready / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False), "utf-8")


def _keep_originals(job: _Job, parent: Path) -> None:
    for address, file in job.fetched.items():
        place = parent / below_mirror(address)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)


def _is_there(target: Path, entry: Entry) -> bool:
    try:
        record = json.loads((target / RECORD).read_bytes())
    except (OSError, ValueError):
        return False
    whole = all((target / path).exists() for path in entry.layout)
    return whole and isinstance(record, dict) and record.get("catalog") == _digest(entry)


def _digest(entry: Entry) -> str:
    """Changes when the catalog says that other files are wanted, or in another form."""
    facts = entry.model_dump_json(include={"sources", "prepare", "layout"})
    return sha256_of(facts.encode()).hexdigest()


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, without a second copy where that is possible."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
