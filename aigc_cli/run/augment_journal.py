"""The list of a set's items as it is written: `augment.part.jsonl`, at the end `augment.jsonl`.

Items are made in the order of their numbers, whatever the number of processes, so line n is item n
and the number of lines says where a killed call stopped. Nothing but the file remembers them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from aigc_cli.errors import OutputError
from aigc_cli.media.files import write_bytes, write_error
from aigc_cli.modalities._output import digest_of

LIST, RECORD = "augment.jsonl", "augment.json"
PART, ASKED = "augment.part.jsonl", "augment.part.json"
COMMON = ("train.jsonl", "val.jsonl")
"""Files that many items are rows of."""

Line = dict[str, Any]


class Journal:
    """Appends lines, and the rows of common files; `count` lines are there when it is opened."""

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        self.folder, self.count = folder, 0
        self._asked = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        self._file: IO[bytes] | None = None
        self._common: dict[str, IO[bytes]] = {}

    def begin(self, *, go_on: bool) -> None:
        """Open it; `go_on`: behind what a killed call has written.

        Raises:
            OutputError: there is nothing to go on from, or it was asked for otherwise.
        """
        part, kept, ends = self.folder / PART, 0, dict.fromkeys(COMMON, 0)
        if go_on:
            self._require_same()
            for line, end in _whole_lines(part):
                if not self._is_there(line):
                    break
                self.count, kept = self.count + 1, end
                if "end" in line:
                    ends[line["path"]] = line["end"]
            for name in COMMON:
                if (self.folder / name).is_file():
                    self._common[name] = _opened(self.folder / name, ends[name])
        else:
            write_bytes(self.folder / ASKED, json.dumps({"asked": self._asked}).encode())
        self._file = _opened(part, kept)

    def _require_same(self) -> None:
        try:
            asked = json.loads((self.folder / ASKED).read_bytes())["asked"]
        except FileNotFoundError:
            raise OutputError(
                f"{self.folder}: there is no interrupted call to continue",
                hint="leave out --continue, or name its folder with --out",
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{self.folder / ASKED}: is damaged", hint="start anew with --overwrite"
            ) from error
        if asked != self._asked:
            raise OutputError(
                f"{self.folder}: the interrupted call was asked for something else (data, "
                "operations, checkpoint, sizes or seed)",
                hint="repeat its command with --continue, or start anew with --overwrite",
            )

    def _is_there(self, line: Line) -> bool:
        path = self.folder / line["path"]
        if "end" in line:
            return path.is_file() and path.stat().st_size >= line["end"]
        return path.is_file() and digest_of(path) == line["sha256"]

    def lines(self) -> Iterator[Line]:
        """The lines so far, read from the file."""
        for line, _ in _whole_lines(self.folder / PART):
            yield line

    def add(self, line: Line, row: bytes | None = None) -> None:
        """Note an item, whose file is there, by its line, which has the SHA-256 of that; or `row`
        is added to the common file it names.

        Raises:
            DiskFullError, OutputError: it cannot be written.
        """
        assert self._file is not None
        path = self.folder / line["path"]
        try:
            if row is not None:
                if line["path"] not in self._common:
                    self._common[line["path"]] = _opened(path, 0)
                common = self._common[line["path"]]
                place = {"start": common.tell(), "end": common.tell() + len(row)}
                common.write(row)
                common.flush()
                line = {**line, **place}
            self._file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())
            self._file.flush()
        except OSError as error:
            raise write_error(error, path, len(row or b"")) from error
        self.count += 1

    def end(self, record: Mapping[str, Any]) -> None:
        """Everything is there: write the record, and give the list its name."""
        self.close()
        text = json.dumps(record, indent=2, ensure_ascii=False)
        write_bytes(self.folder / RECORD, text.encode())
        os.replace(self.folder / PART, self.folder / LIST)
        (self.folder / ASKED).unlink()

    def close(self) -> None:
        for file in (self._file, *self._common.values()):
            if file is not None:
                with suppress(OSError):
                    file.close()


def _opened(path: Path, end: int) -> IO[bytes]:
    """To be written on from byte `end`."""
    try:
        file = path.open("r+b" if path.exists() else "x+b")
        file.truncate(end)
        file.seek(end)
    except OSError as error:
        raise write_error(error, path, 0) from error
    return file


def _whole_lines(path: Path) -> Iterator[tuple[Line, int]]:
    """Each line that is whole, and where it ends; the last may be half written."""
    end = 0
    if not path.is_file():
        return
    with path.open("rb") as file:
        for text in file:
            end += len(text)
            try:
                line = json.loads(text)
            except ValueError:
                return
            if not text.endswith(b"\n") or not isinstance(line, dict):
                return
            yield line, end


def is_interrupted(folder: Path) -> bool:
    return (folder / ASKED).exists()


def clear(folder: Path) -> None:
    """Remove what an earlier call has written there, and nothing else."""
    for name in (LIST, PART):
        for line, _ in _whole_lines(folder / name):
            path = folder / str(line.get("path", ""))
            if path.resolve().is_relative_to(folder.resolve()) and path.is_file():
                path.unlink()
        (folder / name).unlink(missing_ok=True)
    for name in (RECORD, ASKED):
        (folder / name).unlink(missing_ok=True)


def lineage(source: str) -> dict[str, list[str]]:
    """Of each item of a set that this command has made, by its digest, the digests of the real
    items it comes from; empty where the source is another.
    """
    place = Path(source)
    for folder in (place, place.parent):
        if (folder / LIST).is_file():
            lines = _whole_lines(folder / LIST)
            return {str(line["digest"]): list(line["origins"]) for line, _ in lines}
    return {}
