"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path

from aigc_cli.errors import AigcError, DiskFullError, OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_bytes(path: Path, data: bytes) -> None:
    """Write through a temporary file in the same folder, so that `path` never holds a part.

    Raises:
        DiskFullError: no space, quota or allowed file size left.
        OutputError: the folder is absent, read-only or no folder, or `path` is a folder.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise write_error(error, path, len(data)) from error


def write_error(error: OSError, path: Path, size: int) -> AigcError:
    """The expected ending for a failed write of `size` bytes to `path`."""
    if error.errno in _FULL:
        return DiskFullError(
            f"no space left to write {path} ({size:,} bytes)",
            hint="free some space or write to another disk",
        )
    reason = error.strerror or str(error) or type(error).__name__
    return OutputError(f"cannot write {path}: {reason[0].lower()}{reason[1:]}")
