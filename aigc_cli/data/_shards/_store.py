"""Where shards lie: a folder, or any address that fsspec knows; a piece of a file at a time.

A piece is read by position and not through a memory map: where a mapped file is cut short by
somebody else, the process ends by SIGBUS without a word.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

from aigc_cli.data._names import PerProcess
from aigc_cli.errors import DataError, MissingError
from aigc_cli.media._positions import read_at

OPEN = 64  # shards of a process that stay open
TRIES, WAIT_S = 4, 0.25  # of a request, and before the second one; then twice as long each time
TIMEOUT_S = 60.0  # of a server that says nothing


class Store(ABC):
    """Files by name; instances travel to other processes."""

    place: str
    """For messages."""

    @abstractmethod
    def read(self, file: str, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start`, fewer where the file ends.

        Raises:
            DataError: it is absent or cannot be read.
        """

    @abstractmethod
    def size(self, file: str) -> int | None:
        """Bytes of a file; None where asking would take a request of its own. Raises DataError."""

    def path(self, file: str) -> Path | None:
        """Where the file can be mapped into memory."""
        return None

    def named(self, file: str) -> str:
        """A file, for messages."""
        return f"{self.place.rstrip('/')}/{file}"


class LocalStore(Store):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, str(folder)
        self._files: PerProcess = PerProcess(_Descriptors)

    def path(self, file: str) -> Path:
        return self.folder / file

    def size(self, file: str) -> int:
        try:
            return os.stat(self.folder / file).st_size
        except OSError as error:
            raise self._unreadable(file, error) from error

    def read(self, file: str, start: int, size: int) -> bytes:
        try:
            return self._files().of(self.folder / file).read(start, size)
        except OSError as error:
            raise self._unreadable(file, error) from error

    def _unreadable(self, file: str, error: OSError) -> DataError:
        if isinstance(error, FileNotFoundError):
            return DataError(f"{self.named(file)} is missing", hint="copy the shard again")
        return DataError(f"{self.named(file)} cannot be read: {error.strerror}")


class _Descriptors:
    """The files that were used last, open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _Descriptor] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, path: Path) -> _Descriptor:
        with self._lock:
            if path not in self._open:
                self._open[path] = _Descriptor(path)
            self._open.move_to_end(path)
            if len(self._open) > OPEN:
                self._open.popitem(last=False)  # closed once no thread reads from it
            return self._open[path]


class _Descriptor:
    """An open file that several threads read from at any position."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def read(self, start: int, size: int) -> bytes:
        return read_at(self._file, size, start)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)


class RemoteStore(Store):
    """A folder behind an address such as https://host/set or s3://bucket/set, by ranges of bytes.

    A request that fails is made again, a few times; one for what is not there is not.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self._system = PerProcess(partial(_file_system, place))

    def size(self, file: str) -> None:
        return None

    def read(self, file: str, start: int, size: int) -> bytes:
        if not size:
            return b""
        wait = WAIT_S
        for left in reversed(range(TRIES)):
            try:
                system, root = self._system()
                data = bytes(system.cat_file(f"{root}/{file}", start=start, end=start + size))
            except MissingError:
                raise
            except FileNotFoundError as error:
                raise DataError(
                    f"{self.named(file)} is missing", hint="copy the shards there again"
                ) from error
            except Exception as error:  # each store has its own: of aiohttp, botocore, asyncio
                behind = getattr(error, "status", 0) == 416 or "InvalidRange" in str(error)
                if behind:  # the end of the file
                    return b""
                if not left:
                    reason = " ".join(str(error).split())[:200] or type(error).__name__
                    raise DataError(
                        f"{self.named(file)} cannot be read: {reason}",
                        hint="check the address, your access and the network",
                    ) from error
            else:
                if len(data) > size:
                    raise DataError(
                        f"{self.named(file)}: the server sent {len(data):,} bytes where {size:,} "
                        "were asked for: it knows no ranges",
                        hint="serve the shards by a server that does, or copy them here",
                    )
                return data
            time.sleep(wait)
            wait *= 2
        raise AssertionError("unreachable")


class _Bucket:
    """S3 by pyarrow's own file system: the files that were used last stay open, so a piece takes
    one request. Keys and region come as AWS's own tools find them, and another server by
    AWS_ENDPOINT_URL.
    """

    def __init__(self, bucket: str) -> None:
        from pyarrow import fs

        variables = os.environ.get
        endpoint = variables("AWS_ENDPOINT_URL_S3") or variables("AWS_ENDPOINT_URL")
        region = variables("AWS_REGION") or variables("AWS_DEFAULT_REGION")
        if region is None:
            region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
        self._system = fs.S3FileSystem(
            endpoint_override=endpoint, region=region, connect_timeout=TIMEOUT_S
        )
        self._open: OrderedDict[str, Any] = OrderedDict()

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        """As fsspec's."""
        file = self._open.pop(path, None) or self._system.open_input_file(path)
        self._open[path] = file  # the last
        if len(self._open) > OPEN:
            self._open.popitem(last=False)
        return bytes(file.read_at(end - start, start))


def _file_system(place: str) -> tuple[Any, str]:
    """The file system of an address, and the path in it.

    Raises:
        MissingError: its package is not installed. DataError: nothing knows such addresses.
    """
    import fsspec

    if place.startswith("s3://"):
        root = place.removeprefix("s3://").rstrip("/")
        return _Bucket(root.partition("/")[0]), root
    options: dict[str, Any] = {}
    if place.startswith(("http://", "https://")):
        import aiohttp

        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(sock_read=TIMEOUT_S)}
    try:
        system, root = fsspec.core.url_to_fs(place, **options)
    except ImportError as error:
        raise MissingError(
            f"{place} needs a package that is not installed: {error}",
            hint="install it, or serve the shards by https:// or s3://",
        ) from error
    except ValueError as error:
        raise DataError(f"{place!r} cannot be read: {error}") from error
    return system, str(root).rstrip("/")


def open_store(place: str) -> Store:
    """What lies at a path or address, without looking there."""
    return RemoteStore(place) if "://" in place else LocalStore(Path(place))
