"""Where texts come from: one text in a recipe, read piece by piece.

| text                    | what it is                                                           |
|-------------------------|----------------------------------------------------------------------|
| `book.txt`, `train.de`  | UTF-8, running or a text a line; any ending that is none of these    |
| `pairs.tsv`             | columns between tabs, numbered from 0, without quotes or a head      |
| `table.csv`             | columns between commas, by the names in the first line               |
| `mails.jsonl`           | a JSON object a line                                                 |
| `demo.json`             | a JSON list of objects                                               |
| `books/`                | all of these in a folder, by name                                    |
| `shards`                | what `aigc data shard` made of these, or an address of it            |
| `hf:name[:split]`       | data set of the Hugging Face hub or of a folder, parquet or arrow    |
| `builtin:tatoeba:train` | part of a set inside the package; catalog/find.py lists them         |
| `multi30k/val.de.gz`    | file of a set of the catalog that `aigc data get` fetched            |

Each may be packed: `mails.jsonl.gz`. Only `\\n` ends a line, and a `\\r` before it belongs to it.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from aigc_cli.data._cache import digest
from aigc_cli.data._names import is_hidden
from aigc_cli.data._paths import find_path, find_shards
from aigc_cli.data._shards import Shards, StoredFile
from aigc_cli.data._sources import load_split
from aigc_cli.errors import DataError

BLOCK = 1 << 18  # bytes of a file that are decoded at once
JSON_LIST = 1 << 30  # bytes of the largest JSON list: it is read whole

HALF = re.compile(r"\\u[dD]")  # perhaps an escape of half a surrogate pair

OBJECTS = ("objects", "list", "table")
"""Forms of a TextFile whose records are objects."""

Record = str | list[str] | dict[str, Any]
"""A line, the columns of one, or an object."""


@dataclass(frozen=True)
class Place:
    """Where a record stands, for messages."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Texts:
    """One file, data set, or several of them, one after the other."""

    def __init__(self, text: str, parts: Sequence[TextFile | HubTexts]) -> None:
        self.text, self.parts = text, list(parts)

    @cached_property
    def digest(self) -> str:
        """Changes when anything in the texts does."""
        return digest(part.digest for part in self.parts)

    @property
    def is_running(self) -> bool:
        """Whether all are plain files, which may hold running text."""
        return all(isinstance(part, TextFile) and part.form == "plain" for part in self.parts)

    def records(self) -> Iterator[tuple[Place, Record]]:
        """Every record with its place.

        Raises:
            DataError: a file cannot be read, or is not what its name says; names the line.
        """
        for part in self.parts:
            yield from part.records()

    def blocks(self) -> Iterator[tuple[str, bool]]:
        """Running text in pieces, and whether each is the last of its file. Raises as `records`."""
        for part in self.parts:
            assert isinstance(part, TextFile)
            yield from part.blocks()


class TextFile:
    """One file, of a form that its name tells."""

    def __init__(self, path: Path | StoredFile, name: str | None = None) -> None:
        self.path, self.name = path, name or path.name
        ending = Path(path.stem if path.suffix == ".gz" else path.name).suffix.lower()
        forms = {".jsonl": "objects", ".json": "list", ".csv": "table", ".tsv": "columns"}
        self.form = forms.get(ending, "plain")

    @cached_property
    def digest(self) -> str:
        if isinstance(self.path, StoredFile) and (known := self.path.fact("blake2b")):
            return f"{self.form} {known}"
        try:
            with self.path.open("rb") as file:
                state = hashlib.file_digest(file, "blake2b")  # type: ignore[arg-type]
                return f"{self.form} {state.hexdigest()}"
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {error.strerror}") from error

    def records(self) -> Iterator[tuple[Place, Record]]:
        if self.form in ("list", "table"):
            yield from self._list() if self.form == "list" else self._table()
            return
        for number, line in enumerate(self.lines(), 1):
            place = Place(self.name, number)
            if self.form == "objects":
                if line.strip():
                    yield place, _object(line, place)
            else:
                yield place, line.split("\t") if self.form == "columns" else line

    def _list(self) -> Iterator[tuple[Place, Record]]:
        text = "".join(text for text, _ in self.blocks(limit=JSON_LIST))
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.name}: no JSON: {error}") from error
        if not isinstance(rows, list):
            raise DataError(
                f"{self.name}: no JSON list of objects", hint="name it .jsonl for an object a line"
            )
        halves = HALF.search(text) is not None
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict):
                raise DataError(f"{self.name}: item {number} is no JSON object")
            place = Place(f"{self.name} item", number)
            yield place, _encodable(row, place) if halves else row

    def _table(self) -> Iterator[tuple[Place, Record]]:
        rows = csv.reader((f"{line}\n" for line in self.lines()), strict=True)
        try:
            head = next(rows)
            for row in rows:
                place = Place(self.name, rows.line_num)
                if len(row) != len(head):
                    raise DataError(
                        f"{place}: {len(row)} columns, and the first line names {len(head)}"
                    )
                yield place, dict(zip(head, row, strict=True))
        except csv.Error as error:
            raise DataError(f"{self.name}:{rows.line_num}: no CSV: {error}") from error

    def lines(self) -> Iterator[str]:
        """Lines without their ends; an end at the end of the file begins no further line."""
        parts: list[str] = []
        for block, _ in self.blocks():
            first, *others = block.split("\n")
            parts.append(first)
            for line in others:
                yield "".join(parts).removesuffix("\r")
                parts = [line]
        if last := "".join(parts):
            yield last

    def blocks(self, limit: int | None = None) -> Iterator[tuple[str, bool]]:
        """The text in pieces that do not part a character; the last one is marked.

        Raises:
            DataError: the file cannot be read, is empty, too large, or not UTF-8.
        """
        decoder = codecs.getincrementaldecoder("utf-8")()
        waiting, lines, size = "", 1, 0
        for raw in self._raw():
            if limit is not None and (size := size + len(raw)) > limit:
                raise DataError(f"{self.name}: a JSON list of more than {limit >> 20} MiB",
                                hint="write it as .jsonl, an object a line")  # fmt: skip
            try:
                text = decoder.decode(raw, final=not raw)
            except UnicodeDecodeError as error:
                line = lines + error.object[: error.start].count(b"\n")
                byte = error.object[error.start]
                raise DataError(
                    f"{self.name}:{line}: byte 0x{byte:02x} is not UTF-8",
                    hint="save the file as UTF-8",
                ) from error
            lines += text.count("\n")
            if text and waiting:
                yield waiting, False
            waiting = text or waiting
        if not waiting:
            raise DataError(f"{self.name} is empty")
        yield waiting, True

    def _raw(self) -> Iterator[bytes]:
        """The bytes without a mark of their order; an empty piece ends them."""
        try:
            with self.path.open("rb") as packed, self._unpacked(packed) as file:
                yield file.read(BLOCK).removeprefix(codecs.BOM_UTF8)
                while raw := file.read(BLOCK):
                    yield raw
                yield b""
        except (OSError, EOFError, zlib.error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"{self.name} cannot be read: {reason}") from error

    def _unpacked(self, file: IO[bytes]) -> IO[bytes]:
        return gzip.open(file) if self.path.suffix == ".gz" else file  # type: ignore[return-value]


class HubTexts:
    """One split of a Hugging Face data set; its rows are objects."""

    def __init__(self, text: str, bases: Sequence[Path]) -> None:
        self._split, self.name = load_split(text, bases)

    @property
    def digest(self) -> str:
        return str(self._split._fingerprint)

    def records(self) -> Iterator[tuple[Place, Record]]:
        for number, row in enumerate(self._split, 1):
            yield Place(f"{self.name} row", number), row


def open_texts(
    text: str | Sequence[str], *, bases: Sequence[Path] = (), key: str = "data.train"
) -> Texts:
    """What `text` means, or several as one; `key` is the recipe key that messages name.

    Raises:
        DataError: nothing is there. MissingError: `hf:` without the package `datasets`.
    """
    texts = [text] if isinstance(text, str) else list(text)
    parts: list[TextFile | HubTexts] = []
    for one in texts:
        try:
            parts += _open_one(one, bases)
        except DataError as error:
            raise DataError(f"{key}: {error.message}", hint=error.hint) from error
    return Texts(", ".join(texts), parts)


def _open_one(text: str, bases: Sequence[Path]) -> list[TextFile | HubTexts]:
    if text.startswith("hf:"):
        return [HubTexts(text.removeprefix("hf:"), bases)]
    if index := find_shards(text, bases):
        shards = Shards(*index)
        return [TextFile(StoredFile(shards, n), name) for n, name in enumerate(shards.names())]
    path = find_path(text, bases)
    if not path.is_dir():
        return [TextFile(path)]
    files = sorted(file for file in path.rglob("*") if file.is_file())
    names = [file.relative_to(path).as_posix() for file in files]
    found = [
        TextFile(file, name)
        for file, name in zip(files, names, strict=True)
        if not any(map(is_hidden, name.split("/")))
    ]
    if not found:
        raise DataError(f"no files in {text!r}")
    return list(found)


def field(record: Record, key: str | int, place: Place) -> Any:
    """What a record has under `key`: the column, the value of the object, or the whole line.

    Raises:
        DataError: there is none; names the place and what there is.
    """
    if isinstance(record, str):
        return record
    if isinstance(record, list):
        if not isinstance(key, int):
            raise DataError(f"{place}: {key!r} is no number of a column", hint="count from 0")
        if key >= len(record):
            raise DataError(f"{place}: no column {key} in {len(record)}")
        return record[key]
    if key not in record:
        raise DataError(f"{place}: no key {key!r}", hint=f"keys: {', '.join(map(str, record))}")
    return record[str(key)]


def strings(value: Any, key: str | int, place: Place) -> list[str]:
    """A text as a list of one, or a list of texts.

    Raises:
        DataError: it is something else.
    """
    values = value if isinstance(value, list) else [value]
    for one in values:
        if not isinstance(one, str):
            raise DataError(f"{place}: {key!r} is {_shown(one)}, not a text or list of texts")
    return values


def turns(record: Record, key: str, place: Place) -> list[str]:
    """What was said, one after the other: texts, or pairs of a speaker and a text.

    Raises:
        DataError: it is something else.
    """
    found = field(record, key, place)
    if not isinstance(found, list):
        raise DataError(f"{place}: {key!r} is no list of turns")
    said = [turn[-1] if isinstance(turn, list) and turn else turn for turn in found]
    return [re.sub(r"\s*\n\s*", " ", text).strip() for text in strings(said, key, place)]


def _shown(value: Any) -> str:
    return re.sub(r"\s+", " ", json.dumps(value, ensure_ascii=False, default=str))[:40]


def _object(line: str, place: Place) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise DataError(f"{place}: no JSON: {message}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: no JSON object but {_shown(row)}")
    return _encodable(row, place) if HALF.search(line) else row


def _encodable(row: dict[str, Any], place: Place) -> dict[str, Any]:
    """See that no text in a row holds half of a surrogate pair, which only an escape can write."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(
            f"{place}: {half} is half of a surrogate pair and no character",
            hint="write both halves, or the character itself in UTF-8",
        ) from error
    return row
