"""Reads files out of shards by their number."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np

from aigc_cli.data._cache import cache_folder
from aigc_cli.data._names import clean_name
from aigc_cli.data._shards._index import INDEX, MOST, MOST_TABLE, parse
from aigc_cli.data._shards._store import Store, open_store
from aigc_cli.data._shards._write import DIGEST
from aigc_cli.errors import AigcError, DataError, did_you_mean
from aigc_cli.media.files import write_bytes

BLOCK = 8 << 20  # bytes of a long file that are read at once
COPY_AGAIN = "copy the shard again; its index has SHA-256 and size of each"
NAMES_AT_ONCE = 1 << 14


class Shards:
    """The files in shards, by number, in the order in which they were stored.

    `inner`: only those in that folder, whose names begin there. What takes memory is the numbers of
    these files; all else is mapped. Sizes of shards are compared when this is built, where that
    takes no request, and each file with its digest when it is read.

    Raises:
        DataError: there is no such index, or it or a shard is not what it should be.
        MissingError: a package is absent that knows such an address.
    """

    def __init__(self, place: str, inner: str = "") -> None:
        """place: of index.json, a path or an address."""
        self.place, self.inner = place, inner.strip("/")
        folder = (
            place.removesuffix(INDEX).rstrip("/") if "://" in place else str(Path(place).parent)
        )
        self.store: Store = open_store(folder)
        self.index = parse(self.store.read(INDEX, 0, MOST), place)
        for shard in self.index.shards:
            self._require_size(shard.file, shard.bytes)
        self.table = self._open_table()
        self._ends = list(accumulate(shard.items for shard in self.index.shards))
        self._require_places()
        self.rows = self._within() if self.inner else None

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "inner": self.inner}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def _require_size(self, file: str, size: int) -> None:
        found = self.store.size(file)
        if found is not None and found != size:
            how = "cut short" if found < size else "changed"
            raise DataError(
                f"{self.store.named(file)} has {found:,} bytes and not {size:,}: it was {how}",
                hint=COPY_AGAIN,
            )

    def _open_table(self) -> Any:
        """The table, mapped where it can be; what came from elsewhere is kept in the cache."""
        import pyarrow as pa

        file = self.index.table
        where = self.store.named(file.file)
        if file.bytes > MOST_TABLE:
            raise DataError(f"{where}: {file.bytes:,} bytes, more than can be an index")
        self._require_size(file.file, file.bytes)
        path = self.store.path(file.file) or self._fetched()
        try:
            source = pa.memory_map(str(path)) if isinstance(path, Path) else pa.BufferReader(path)
            if _sha256(source) != file.sha256:
                raise DataError(f"{where}: is not what {INDEX} says", hint="copy both again")
            source.seek(0)
            table = pa.ipc.open_file(source).read_all()
            table.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{where}: cannot be read: {error}") from error
        wanted = {"name": pa.large_string(), "start": pa.uint64(), "size": pa.uint64(),
                  "digest": pa.binary(DIGEST)}  # fmt: skip
        types = {name: table.schema.field(name).type for name in table.schema.names}
        if not wanted.items() <= types.items() or len(table) != self.index.items:
            raise DataError(f"{where}: is no table of {self.index.items:,} files")
        return table

    def _require_places(self) -> None:
        """See that every file lies within its shard, so that no more is read than is there."""
        if not self._ends:
            return
        begins = [0, *self._ends[:-1]]
        limits = np.array([shard.bytes for shard in self.index.shards], np.uint64)
        ends = [np.maximum.reduceat(column, begins) for column in self._columns[1:3]]
        if any((end > limits).any() for end in ends):
            raise DataError(f"{self.place}: a file is larger than its shard", hint=COPY_AGAIN)

    def _fetched(self) -> Path | bytes:
        """The table from elsewhere, by its digest."""
        file = self.index.table
        cache = cache_folder("auto")
        path = cache / "shards" / f"{file.sha256}.arrow" if cache else None
        if path is not None and path.is_file() and path.stat().st_size == file.bytes:
            return path
        parts = range(0, file.bytes, BLOCK)
        size = file.bytes
        data = b"".join(self.store.read(file.file, p, min(BLOCK, size - p)) for p in parts)
        if len(data) != size or hashlib.sha256(data).hexdigest() != file.sha256:
            where = self.store.named(file.file)
            raise DataError(f"{where}: is not what {INDEX} says", hint="copy both again")
        if path is None:
            return data
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, data)
        except (OSError, AigcError):  # a full disk
            return data
        return path

    def column(self, name: str) -> Any:
        """Of all files, mapped: (items,) as NumPy has it, or as Arrow where that has no such."""
        import pyarrow as pa

        chunks = self.table.column(name).chunks
        column = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks or [pa.array([])])
        if pa.types.is_integer(column.type):
            return column.to_numpy(zero_copy_only=column.null_count == 0)
        return column

    @cached_property
    def _columns(self) -> tuple[Any, Any, Any, Any]:
        return tuple(map(self.column, ("name", "start", "size", "digest")))

    @property
    def facts(self) -> set[str]:
        """Names of what is known of each file beside where it lies."""
        return set(self.table.schema.names) - {"name", "start", "size", "digest"}

    def _within(self) -> Any:
        from pyarrow import compute as pc

        inside = pc.starts_with(self._columns[0], f"{self.inner}/")
        rows = np.flatnonzero(inside.to_numpy(zero_copy_only=False))
        if not len(rows):
            raise DataError(
                f"{self.place}: holds no folder {self.inner!r}",
                hint=did_you_mean(self.inner, self._all_folders()),
            )
        return rows

    def _all_folders(self) -> set[str]:
        found = set()
        for folder in self._folders(self._columns[0])[1]:
            parts = folder.split("/")
            found |= {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}
        return found - {""}

    @staticmethod
    def _folders(names: Any) -> tuple[Any, list[str]]:
        from pyarrow import compute as pc

        coded = pc.replace_substring_regex(names, r"/?[^/]*$", "").dictionary_encode()
        return coded.indices.to_numpy(), coded.dictionary.to_pylist()

    @cached_property
    def folders(self) -> tuple[Any, list[str]]:
        """(len,) numbers of the folder of each file, and the folders."""
        names = self._columns[0]
        codes, folders = self._folders(names if self.rows is None else names.take(self.rows))
        cut = f"{self.inner}/" if self.inner else ""
        return codes, [f"{folder}/".removeprefix(cut).removesuffix("/") for folder in folders]

    def __len__(self) -> int:
        return self.index.items if self.rows is None else len(self.rows)

    def row(self, number: int) -> int:
        """Of a file in the table."""
        return number if self.rows is None else int(self.rows[number])

    def name(self, number: int) -> str:
        """Relative and harmless, from `inner` on."""
        name = clean_name(self._columns[0][self.row(number)].as_py())
        return name.removeprefix(f"{self.inner}/") if self.inner else name

    def names(self) -> Iterator[str]:
        """All names, in order."""
        column = self._columns[0]
        cut = f"{self.inner}/" if self.inner else ""
        for first in range(0, len(self), NAMES_AT_ONCE):
            if self.rows is None:
                part = column.slice(first, NAMES_AT_ONCE)
            else:
                part = column.take(self.rows[first : first + NAMES_AT_ONCE])
            yield from (clean_name(name).removeprefix(cut) for name in part.to_pylist())

    def size(self, number: int) -> int:
        """Bytes of a file."""
        return int(self._columns[2][self.row(number)])

    def digest(self, number: int) -> bytes:
        """BLAKE2b of a file, 16 bytes."""
        return bytes(self._columns[3][self.row(number)].as_py())

    def _shard(self, row: int) -> str:
        return self.index.shards[bisect_right(self._ends, row)].file

    def piece(self, number: int, first: int, size: int) -> bytes:
        """`size` bytes of a file from its byte `first`, not held against its digest.

        Raises:
            DataError: the shard is absent, ends early or cannot be read; names it.
        """
        row = self.row(number)
        shard = self._shard(row)
        data = self.store.read(shard, int(self._columns[1][row]) + first, size)
        if len(data) < size:
            raise DataError(
                f"{self.store.named(shard)} ends within {self.name(number)!r}: it was cut short",
                hint=COPY_AGAIN,
            )
        return data

    def changed(self, number: int) -> DataError:
        """What to say of a file whose digest does not fit."""
        shard = self.store.named(self._shard(self.row(number)))
        return DataError(
            f"{shard} was changed or damaged: {self.name(number)!r} in it is not what was stored",
            hint=COPY_AGAIN,
        )

    def read(self, number: int, most: int | None = None) -> bytes:
        """A whole file, or `most` + 1 bytes of a larger one.

        Raises:
            DataError: its shard is absent, cut short, changed or cannot be read; names it.
        """
        size = self.size(number)
        if most is not None and size > most:
            return self.piece(number, 0, most + 1)
        data = self.piece(number, 0, size)
        if hashlib.blake2b(data, digest_size=DIGEST).digest() != self.digest(number):
            raise self.changed(number)
        return data


class StoredFile:
    """A file in shards that is read from beginning to end, as a path is."""

    def __init__(self, shards: Shards, number: int) -> None:
        self.shards, self.number = shards, number
        self.path = Path(shards.name(number))
        self.name, self.stem, self.suffix = self.path.name, self.path.stem, self.path.suffix

    def fact(self, name: str) -> Any:
        """What a modality stored of it; None where it did not."""
        if name not in self.shards.facts:
            return None
        return self.shards.table.column(name)[self.shards.row(self.number)].as_py()

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Its bytes; the last of them are given only when the whole file fits its digest."""
        return io.BufferedReader(_Stream(self.shards, self.number), BLOCK)


class _Stream(io.RawIOBase):
    def __init__(self, shards: Shards, number: int) -> None:
        self._shards, self._number = shards, number
        self._at, self._size = 0, shards.size(number)
        self._state = hashlib.blake2b(digest_size=DIGEST)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        size = min(len(view), BLOCK, self._size - self._at)
        data = self._shards.piece(self._number, self._at, size)
        self._state.update(data)
        self._at += size
        if self._at == self._size and self._state.digest() != self._shards.digest(self._number):
            raise self._shards.changed(self._number)
        view[:size] = data
        return size


def _sha256(file: Any) -> str:
    state = hashlib.sha256()
    while block := file.read_buffer(BLOCK):
        state.update(block)
    return state.hexdigest()
