"""The folder that `aigc sample` writes: names that never meet, and a journal to go on from.

While a call runs, `samples.part.jsonl` has a line for each number that is done. A call that was
killed leaves it behind, and `--continue` takes over what it lists, if everything was asked for as
before. At the end `samples.json` takes its place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TextIO

from aigc_cli.errors import DiskFullError, OutputError
from aigc_cli.media.files import write_bytes

RECORD = "samples.json"
JOURNAL = "samples.part.jsonl"
LABELS = "labels.csv"


@dataclass(frozen=True)
class Kept:
    """What a killed call has finished of one number."""

    files: Sequence[File]
    state: Any = None
    """What the writer asked to be kept beside the files, as JSON."""


@dataclass(frozen=True)
class File:
    """A file that was written; `facts` are for its entry in samples.json."""

    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    sample: bool = True
    """Whether it is one of what was asked for, and not a sheet of them."""


class Output:
    """A folder for samples, or a single file (`single`) for all of them."""

    def __init__(
        self, folder: Path, single: Path | None = None, *, own: Sequence[str] = ()
    ) -> None:
        """`own` are names of files that no answer gets, whatever its input is called."""
        self.folder, self.single = folder, single
        self._own = {RECORD, JOURNAL, LABELS, *own}
        self._taken = {name.casefold() for name in self._own}
        self._journal: TextIO | None = None
        self._kept: dict[int, Kept] = {}

    def prepare(self, *, overwrite: bool = False) -> None:
        """Make the folder, or the folder of the single file; refuse what would be overwritten.

        Raises:
            OutputError: it is in use, or cannot be made.
        """
        if self.single is not None:
            prepare_file(self.single, overwrite=overwrite)
        else:
            prepare_folder(self.folder, overwrite=overwrite)

    def begin(self, asked: Mapping[str, Any], *, go_on: bool = False) -> None:
        """Open the journal; `asked` is all that decides the files. `go_on`: take over what a
        killed call has written that was asked for the same.

        Raises:
            OutputError: there is nothing to go on from, or it was asked for otherwise.
        """
        if self.single is not None:
            return
        path = self.folder / JOURNAL
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()
        if go_on:
            self._kept = dict(_read_journal(path, digest))
        head = json.dumps({"asked": digest}) + "\n"
        rows = "".join(_row(number, kept, self.folder) for number, kept in self._kept.items())
        write_bytes(path, (head + rows).encode())
        self._journal = path.open("a", encoding="utf-8")

    def name(self, name: str) -> Path:
        """Where a file of this relative name goes; another name where it would meet one of our own
        or one given before.
        """
        path = Path(name)
        chosen, tries = path, count(2)
        while chosen.as_posix().casefold() in self._taken:
            chosen = path.with_stem(f"{path.stem}-{next(tries)}")
        self._taken.add(chosen.as_posix().casefold())
        whole = self.folder / chosen
        whole.parent.mkdir(parents=True, exist_ok=True)
        return whole

    def own(self, name: str) -> Path:
        """Where one of our own files goes."""
        assert name in self._own, name
        return self.folder / name

    def kept(self, number: int) -> Kept | None:
        """What a killed call has finished of a number, if its files are still as they were."""
        kept = self._kept.get(number)
        return None if kept is None or not all(map(_unchanged, kept.files)) else kept

    def done(self, number: int, files: Sequence[File], state: Any = None) -> None:
        """Note in the journal that a number is finished."""
        if self._journal is not None:
            try:
                self._journal.write(_row(number, Kept(files, state), self.folder))
                self._journal.flush()
            except OSError as error:
                raise DiskFullError(f"{self.folder}: no space left: {error.strerror}") from error

    def end(self, record: Mapping[str, Any]) -> None:
        """Write the record in place of the journal."""
        if self._journal is None:
            return
        text = json.dumps(record, indent=2, ensure_ascii=False)
        write_bytes(self.folder / RECORD, text.encode())
        self.close()
        (self.folder / JOURNAL).unlink()

    def close(self) -> None:
        """Let go of the journal, which stays for `--continue`."""
        if self._journal is not None:
            with suppress(OSError):
                self._journal.close()
            self._journal = None

    def relative(self, path: Path) -> str:
        return (path if self.single is not None else path.relative_to(self.folder)).as_posix()


def _row(number: int, kept: Kept, folder: Path) -> str:
    listed = [
        {
            "path": file.path.relative_to(folder).as_posix(),
            "facts": dict(file.facts),
            "sha256": digest_of(file.path),
        }
        for file in kept.files
    ]
    row = {"number": number, "files": listed, "state": kept.state}
    return json.dumps(row, ensure_ascii=False) + "\n"


def _read_journal(path: Path, digest: str) -> Iterator[tuple[int, Kept]]:
    try:
        first, *rows = path.read_text(encoding="utf-8").split("\n")
        asked = json.loads(first)["asked"]
    except FileNotFoundError:
        raise OutputError(
            f"{path.parent}: there is no interrupted call to continue",
            hint="leave out --continue, or name its folder with --out",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path}: is damaged", hint="start anew with --overwrite") from error
    if asked != digest:
        raise OutputError(
            f"{path.parent}: the interrupted call was asked for something else (model, options, "
            "seed, count or inputs)",
            hint="repeat its command with --continue, or start anew with --overwrite",
        )
    for row in rows:
        with suppress(ValueError, KeyError, TypeError):  # the last line may be half written
            found = json.loads(row)
            files = [
                File(path.parent / file["path"], {**file["facts"], "sha256": file["sha256"]})
                for file in found["files"]
            ]
            yield int(found["number"]), Kept(files, found["state"])


def finished(folder: Path) -> int:
    """How many numbers the journal of a call that was cut short lists as done."""
    return (folder / JOURNAL).read_bytes().count(b"\n") - 1


def _unchanged(file: File) -> bool:
    return file.path.is_file() and digest_of(file.path) == file.facts.get("sha256")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prepare_folder(out: Path, *, overwrite: bool, journal: str = JOURNAL) -> None:
    """Make the folder; refuse one with files in it unless told otherwise. `journal` is what an
    interrupted call leaves there.

    Raises:
        OutputError: it is a file, holds files, or cannot be made.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file, not a folder", hint="name a folder with --out")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        interrupted = (out / journal).exists()
        raise OutputError(
            f"{out}: already holds files" + (" of an interrupted call" if interrupted else ""),
            hint="go on with --continue, or start anew with --overwrite"
            if interrupted
            else "choose another --out, or add --overwrite",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".aigc-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror}") from error


def prepare_file(path: Path, *, overwrite: bool) -> None:
    """Make the folder of a file to be written; refuse one that exists unless told otherwise.

    Raises:
        OutputError: it exists, or its folder cannot be made.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(f"{path}: exists already", hint="choose another, or add --overwrite")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error
