"""Fetch one file: resumed after a cut, never longer than it should be, timed out when it stalls.

Only the standard library: pooch begins anew after each cut, and a data set is cut most often when
it is large.
"""

from __future__ import annotations

import errno
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

from aigc_cli import __version__
from aigc_cli.errors import DataError, DiskFullError, RunError

ATTEMPTS = 5  # in a row that bring no byte
TIMEOUT_S = 30.0
WAIT_S = 0.5  # before the second attempt; doubles with each
BLOCK = 1 << 18

Tick = Callable[[int], None]
"""Told how many bytes have arrived; a negative number when some were thrown away."""


def fetch(
    address: str, target: Path, *, size: int | None, resume: bool, tick: Tick, mirror: str = ""
) -> None:
    """The bytes of `address` in `target`, which may have the beginning of them already.

    Without `resume` that beginning is thrown away, as nothing tells whether it is still the same.
    `mirror` is a folder or address that holds each file under the host and path of its address.

    Raises:
        RunError: no network, a server that refuses, or that says nothing; DiskFullError.
        DataError: it is larger than `size`, or the mirror does not have it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if not resume:
        target.unlink(missing_ok=True)
    if mirror and not _is_address(mirror):
        _copy(Path(mirror).expanduser() / below_mirror(address), target, tick)
        return
    if mirror:
        address = f"{mirror.rstrip('/')}/{below_mirror(address, quoted=True)}"
    tick(_size(target))
    failures = 0
    while True:
        before = _size(target)
        try:
            _receive(address, target, size, tick)
            return
        except urllib.error.HTTPError as error:
            if error.code not in (408, 416, 425, 429) and error.code < 500:
                raise RunError(
                    f"{address}: the server answers {error.code} {error.reason}",
                    hint="the file has moved; --mirror names a copy of it",
                ) from error
            reason = f"the server answers {error.code}"
            if error.code == 416:  # what is here is no beginning of what is there
                _throw_away(target, tick)
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
        failures = 0 if _size(target) > before else failures + 1
        if failures == ATTEMPTS:
            raise RunError(
                f"{address} cannot be fetched: {reason}",
                hint="run the command again, it goes on where this one stopped; without network "
                "--mirror names a folder that has the file",
            )
        time.sleep(WAIT_S * 2**failures if failures else 0)


def _receive(address: str, target: Path, size: int | None, tick: Tick) -> None:
    """One request for all that is missing. Raises OSError when it ends too early."""
    have = _size(target)
    if size is not None and have == size:
        return
    headers = {"User-Agent": f"aigc/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - checked: http(s) only
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(
            f"bytes {have}-"
        )
        if have and not goes_on:
            _throw_away(target, tick)
            have = 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        if size is not None and total is not None and total != size:
            _throw_away(target, tick)
            raise DataError(f"{address} has {total:,} bytes, not the {size:,} of the catalog")
        with target.open("ab") as file:
            while block := answer.read(BLOCK):
                have += len(block)
                if size is not None and have > size:
                    raise DataError(f"{address} has more bytes than the {size:,} of the catalog")
                write(file, block)
                tick(len(block))
    if total is not None and have < total:
        raise ConnectionError(f"the connection was cut after {have:,} of {total:,} bytes")


def write(file: IO[bytes], block: bytes) -> None:
    """Raises DiskFullError in place of the system's error."""
    try:
        file.write(block)
        file.flush()
    except OSError as error:
        raise disk_error(error, Path(file.name)) from error


def disk_error(error: OSError, path: Path) -> RunError:
    """What a failed write means for people."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(
            f"no space left for {str(path)!r}",
            hint="free some, or choose another place with --to or AIGC_DATA",
        )
    return RunError(f"cannot write {str(path)!r}: {error.strerror or error}")


def _copy(source: Path, target: Path, tick: Tick) -> None:
    if not source.is_file():
        raise DataError(f"the mirror has no {str(source)!r}")
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise disk_error(error, target) from error
    tick(_size(target))


def below_mirror(address: str, quoted: bool = False) -> str:
    """`host/path` of an address: where a mirror has its file."""
    parts = urlsplit(address)
    return f"{parts.hostname}{parts.path if quoted else unquote(parts.path)}"


def _is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _throw_away(target: Path, tick: Tick) -> None:
    tick(-_size(target))
    target.unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, TimeoutError):
        return f"nothing came for {TIMEOUT_S:g} seconds"
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
