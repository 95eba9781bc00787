"""Where a path lies that a recipe or a command names; light, so that wrong ones are said first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from aigc_cli.catalog.builtin import PREFIX, builtins
from aigc_cli.catalog.entry import names
from aigc_cli.catalog.find import require_no_run, resolve
from aigc_cli.errors import DataError, did_you_mean

INDEX = "index.json"  # of shards


def zip_folder(text: str, bases: Sequence[Path]) -> tuple[Path, str] | None:
    """The zip and the folder in it that a text such as `photos.zip/cat` means, if it means that."""
    text = resolve(text, bases)
    match = re.fullmatch(r"(.*?\.zip)/+(.*[^/])/*", text, re.IGNORECASE)
    if match is None:
        return None
    archive, inner = Path(match[1]).expanduser(), match[2]
    paths = [base / archive for base in bases or (Path(),)]
    return next(((path.resolve(), inner) for path in paths if path.is_file()), None)


def find_shards(text: str, bases: Sequence[Path]) -> tuple[str, str] | None:
    """The index.json of shards, a path or an address, and the folder in them that a text such as
    `shards`, `shards/cat` or `https://host/set/index.json/cat` means, if it means that. Nothing is
    asked of another machine.

    Raises:
        DataError: an address that does not end in index.json or a folder behind it.
    """
    if is_address(text):
        before, found, inner = text.partition(f"/{INDEX}")
        if not found or not text.isprintable():
            raise DataError(f"{text!r}: an address is that of shards", hint=f"end it in /{INDEX}")
        return before + found, inner.strip("/")
    if not text.isprintable() or text.startswith(("builtin:", "hf:")):
        return None
    given = Path(resolve(text, bases)).expanduser()
    for path in (base / given for base in bases or (Path(),)):
        for folder in (path, *path.parents):
            if os.path.exists(folder):
                index = folder if folder.name == INDEX else folder / INDEX
                if not _is_index(index):
                    break
                inner = path.relative_to(folder).as_posix()
                return str(index.resolve()), "" if inner == "." else inner
    return None


def is_address(text: str) -> bool:
    """Whether it is something like https://host/place."""
    return re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE) is not None


def _is_index(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return re.match(rb'\s*\{\s*"format":\s*"aigc-shards"', file.read(200)) is not None
    except OSError:
        return False


def is_named(text: str, bases: Sequence[Path] = ()) -> bool:
    """Whether a text names data otherwise than as a file or folder: in a package, a hub, a zip, a
    file of arrays or shards. Raises as `find_shards`.
    """
    inside = text.startswith(("builtin:", "hf:")) or zip_folder(text, bases) is not None
    inside = inside or npz_part(text, bases) is not None
    return inside or find_shards(text, bases) is not None


def json_part(text: str) -> tuple[str, str | None] | None:
    """The JSON file and the part of it that a text such as `pieces.json:train` means, if one."""
    match = re.fullmatch(r"(.+\.json(?:\.gz)?)(?::([^:/\\]+))?", text, re.IGNORECASE)
    return None if match is None else (match[1], match[2])


def npz_part(text: str, bases: Sequence[Path] = ()) -> tuple[Path, str | None] | None:
    """The .npz file and the part of it that a text such as `x.npz:train` means, if it is there."""
    match = re.fullmatch(r"(.+\.npz)(?::([^:/\\]+))?", resolve(text, bases), re.IGNORECASE)
    if match is None:
        return None
    given = Path(match[1]).expanduser()
    paths = [base / given for base in bases or (Path(),)]
    return next(((path.resolve(), match[2]) for path in paths if path.is_file()), None)


def find_path(text: str, bases: Sequence[Path]) -> Path:
    """Where `text` is, tried against each base in turn; an absolute path ignores them.

    Raises:
        DataError: it is nowhere; the message says where it was looked for. Or it is a run.
    """
    if not text or not text.isprintable():
        raise DataError(f"{text!r} is no path")
    given = Path(resolve(text, bases)).expanduser()
    tried = dict.fromkeys(base / given for base in bases or (Path(),))
    for path in tried:
        if os.path.exists(path):
            require_no_run(path)
            return path.resolve()
    folders = [str(base.absolute()) for base in bases or (Path(),)]
    places = "" if given.is_absolute() else f"; looked in {' and in '.join(dict.fromkeys(folders))}"
    hint = nearest_data(text, bases)
    tells = not hint.startswith(("choose", "list", "there"))
    raise DataError(f"{text!r} does not exist{places}", hint=hint if tells else None)


def nearest_data(text: str, bases: Sequence[Path] = (), others: Iterable[str] = ()) -> str:
    """The hint for a name of data that is nowhere: files and folders beside it, sets of data, and
    what else it may have been.
    """
    given = Path(text).expanduser()
    if any(os.path.islink(base / given) for base in bases or (Path(),)):
        return f"{text} is a link to what is not there"
    known = [name for base in bases or (Path(),) for name in listed((base / given).parent)]
    if given.name == text:  # no path, so that it may be a name
        known += [*names(), *(PREFIX + name for name in builtins()), *others]
    return did_you_mean(given.name, known, ls="aigc data ls")


def listed(path: Path) -> list[str]:
    """Names in a folder; none when it cannot be listed."""
    try:
        return os.listdir(path)
    except OSError:
        return []
