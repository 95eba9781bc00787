"""Reads and writes at positions of an open file, from several threads and processes at once."""

from __future__ import annotations

import os
import threading

_moving = threading.Lock()
"""Held where the system has no such calls (Windows), and the file must be moved first."""


def read_at(file: int, size: int, start: int) -> bytes:
    """Up to `size` bytes from `start`; fewer where the file ends."""
    if hasattr(os, "pread"):
        return os.pread(file, size, start)
    with _moving:
        os.lseek(file, start, os.SEEK_SET)
        return os.read(file, size)


def write_at(file: int, data: memoryview | bytes, start: int) -> None:
    """All of `data` from `start` on."""
    view = memoryview(data)
    while view:
        if hasattr(os, "pwrite"):
            written = os.pwrite(file, view, start)
        else:
            with _moving:
                os.lseek(file, start, os.SEEK_SET)
                written = os.write(file, view)
        view, start = view[written:], start + written
