"""Where a path lies that a recipe or a command names; light, so that wrong ones are said first."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from aigc_cli.catalog.find import resolve
from aigc_cli.errors import DataError, did_you_mean


def zip_folder(text: str, bases: Sequence[Path]) -> tuple[Path, str] | None:
    """The zip and the folder in it that a text such as `photos.zip/cat` means, if it means that."""
    text = resolve(text, bases)
    match = re.fullmatch(r"(.*?\.zip)/+(.*[^/])/*", text, re.IGNORECASE)
    if match is None:
        return None
    archive, inner = Path(match[1]).expanduser(), match[2]
    paths = [base / archive for base in bases or (Path(),)]
    return next(((path.resolve(), inner) for path in paths if path.is_file()), None)


def json_part(text: str) -> tuple[str, str | None] | None:
    """The JSON file and the part of it that a text such as `pieces.json:train` means, if one."""
    match = re.fullmatch(r"(.+\.json(?:\.gz)?)(?::([^:/\\]+))?", text, re.IGNORECASE)
    return None if match is None else (match[1], match[2])


def find_path(text: str, bases: Sequence[Path]) -> Path:
    """Where `text` is, tried against each base in turn; an absolute path ignores them.

    Raises:
        DataError: it is nowhere; the message says where it was looked for.
    """
    if not text or not text.isprintable():
        raise DataError(f"{text!r} is no path")
    given = Path(resolve(text, bases)).expanduser()
    tried = dict.fromkeys(base / given for base in bases or (Path(),))
    for path in tried:
        if os.path.exists(path):
            return path.resolve()
    folders = [str(base.absolute()) for base in bases or (Path(),)]
    places = "" if given.is_absolute() else f"; looked in {' and in '.join(dict.fromkeys(folders))}"
    siblings = [name for path in tried for name in listed(path.parent)]
    hint = did_you_mean(given.name, siblings)
    raise DataError(
        f"{text!r} does not exist{places}", hint=hint if hint.startswith("did") else None
    )


def listed(path: Path) -> list[str]:
    """Names in a folder; none when it cannot be listed."""
    try:
        return os.listdir(path)
    except OSError:
        return []
