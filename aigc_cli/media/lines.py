"""Texts from files: lines of UTF-8, and JSON objects one a line."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from aigc_cli.errors import DataError


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, or of one packed by gzip. Only "\\n" and "\\r\\n" end a line: text
    holds other marks that Python would split at.

    Raises:
        DataError: it is no file, is empty, or a line is not UTF-8; names the line.
    """
    try:
        raw = path.read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_reason(error)}") from error
    if not raw:
        raise DataError(f"{path} is empty")
    lines = raw.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")
    return [_decode(line, path, number) for number, line in enumerate(lines, 1)]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file.

    Raises:
        DataError: as `read_lines`, or a line is no JSON object; names the line.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: not a JSON object")
        rows.append(row)
    return rows


def _decode(line: bytes, path: Path, number: int) -> str:
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}:{number}: byte 0x{line[error.start]:02x} is not UTF-8",
            hint="save the file as UTF-8",
        ) from error


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
