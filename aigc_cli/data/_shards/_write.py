"""Writes shards and their index."""

from __future__ import annotations

import hashlib
import tarfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from aigc_cli.data._names import clean_name
from aigc_cli.data._shards._index import INDEX, TABLE, File, Index, ShardFile
from aigc_cli.errors import DataError

DIGEST = 16  # bytes of a file's BLAKE2b
BLOCK = 1 << 20  # bytes of a file that are copied at once
END = bytes(1024)  # of a tar file


@dataclass(frozen=True)
class Item:
    """A file to be stored."""

    name: str
    content: bytes | Path
    facts: Mapping[str, int | str] = field(default_factory=dict)
    """What is known of it; the same keys for all files."""

    def blocks(self) -> Iterator[bytes]:
        if isinstance(self.content, bytes):
            yield self.content
            return
        with self.content.open("rb") as file:
            while block := file.read(BLOCK):
                yield block

    @property
    def size(self) -> int:
        content = self.content
        return len(content) if isinstance(content, bytes) else content.stat().st_size


class ShardWriter:
    """Stores files one after the other in shards of at most `size` bytes; a file that is larger has
    a shard of its own. A million files take 200 MB of memory meanwhile.

    The same files make the same bytes, whenever and wherever.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.shards: list[ShardFile] = []
        self._names, self._ends = bytearray(), array("q", [0])
        self._starts, self._sizes = array("Q"), array("Q")
        self._digests = bytearray()
        self._facts: dict[str, list[int | str]] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, item: Item) -> None:
        """
        Raises:
            OSError: it cannot be read, or not be written. DataError: it changed meanwhile.
        """
        name, size = clean_name(item.name), item.size
        head = tarfile.TarInfo(name)
        head.size = size
        header = head.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        padding = bytes(-size % tarfile.BLOCKSIZE)
        if self._file is not None and self._at + len(header) + size + len(END) > self.size:
            self._close()
        if self._file is None:
            self._open()
        self._write(header)
        digest, start = hashlib.blake2b(digest_size=DIGEST), self._at
        for block in item.blocks():
            digest.update(block)
            self._write(block)
        if self._at - start != size:
            raise DataError(f"{name}: changed while it was stored", hint="start again")
        self._write(padding)
        self._items += 1
        self._names += name.encode(errors="replace")
        self._ends.append(len(self._names))
        self._starts.append(start)
        self._sizes.append(size)
        self._digests += digest.digest()
        for key, value in item.facts.items():
            self._facts.setdefault(key, []).append(value)

    def _open(self) -> None:
        self._name = f"{len(self.shards):05d}.tar"
        self._file = open(self.folder / self._name, "xb")  # noqa: SIM115
        self._at, self._items, self._sha = 0, 0, hashlib.sha256()

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._sha.update(data)
        self._at += len(data)

    def _close(self) -> None:
        if self._file is None:
            return
        self._write(END)
        self._file.close()
        self._file = None
        digest = self._sha.hexdigest()
        self.shards.append(
            ShardFile(file=self._name, bytes=self._at, sha256=digest, items=self._items)
        )

    def finish(self, modality: str, source: str, skipped: Mapping[str, int]) -> Index:
        """Write the table and the index. Raises OSError; DataError: two files have one name."""
        self._close()
        path = self.folder / TABLE
        _write_table(path, self._table())
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        index = Index(
            modality=modality,
            source=source,
            items=len(self),
            skipped=dict(skipped),
            table=File(file=TABLE, bytes=path.stat().st_size, sha256=digest),
            shards=tuple(self.shards),
        )
        (self.folder / INDEX).write_text(index.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return index

    def _table(self) -> Any:
        import pyarrow as pa
        from pyarrow import compute as pc

        n = len(self)
        names = pa.LargeStringArray.from_buffers(
            n, pa.py_buffer(self._ends), pa.py_buffer(bytes(self._names))
        )
        if pc.count_distinct(names).as_py() != n:
            twice = pc.value_counts(names).filter(pc.greater(pc.value_counts(names).field(1), 1))
            raise DataError(f"two files are called {twice[0]['values'].as_py()!r}")
        digest = pa.Array.from_buffers(
            pa.binary(DIGEST), n, [None, pa.py_buffer(bytes(self._digests))]
        )
        numbers = {
            "start": pa.array(memoryview(self._starts), pa.uint64()),
            "size": pa.array(memoryview(self._sizes), pa.uint64()),
        }
        facts = {key: _fact(values) for key, values in self._facts.items()}
        return pa.table({"name": names, **numbers, "digest": digest, **facts})


def _fact(values: list[int | str]) -> Any:
    """A column of numbers, or of words that repeat."""
    import pyarrow as pa

    if all(isinstance(value, str) for value in values):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, pa.uint32())


def _write_table(path: Path, table: Any) -> None:
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
