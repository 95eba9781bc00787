"""Where data that a recipe names lies: built-in sets, and sets of the catalog that were fetched.

| text                   | what it is                                                            |
|------------------------|-----------------------------------------------------------------------|
| `builtin:emoji:yellow` | a part of a set inside the package                                    |
| `fashion_mnist`        | the first part of a set of the catalog, usually what trains           |
| `fashion_mnist/test`   | another part of it                                                    |
| `multi30k/val.de.gz`   | a file or folder of it                                                |

A set of the catalog is looked for in the working folder, beside the recipe, and in the data folder:
$AIGC_DATA, or the user's own. A file may lie packed there: train.tsv as train.tsv.gz, the folder
train/cat as train.zip/cat.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from aigc_cli.catalog.builtin import PREFIX, builtins, find_builtin
from aigc_cli.catalog.entry import Entry, load, names
from aigc_cli.errors import DataError, did_you_mean


def data_folder() -> Path:
    """Where fetched sets are: $AIGC_DATA, or `aigc/data` where the system keeps users' data."""
    if chosen := os.environ.get("AIGC_DATA"):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("aigc", appauthor=False) / "data"


def resolve(text: str, bases: Sequence[Path] = ()) -> str:
    """The path that a built-in set or a name of the catalog means; any other text as it is.

    What exists below a base wins over the catalog, so nobody's own files are hidden; but for the
    folder of a run and an empty one, which hold no data.

    Raises:
        DataError: no such built-in set or part; the set is not here, with the command that gets it.
    """
    if text.startswith(PREFIX):
        return str(find_builtin(text))
    name, _, rest = text.replace(os.sep, "/").strip("/").partition("/")
    if text.startswith(("/", ".", "~")) or name not in names():
        return text
    own = [base for base in bases or (Path(),) if _may_hold_data(base / name)]
    if rest and any((base / text).exists() for base in own):
        return text
    entry = load(name)
    roots = [*(base / name for base in own), data_folder() / name]
    for root in roots:
        if found := next(_below(root, rest, entry), None):
            return found
    if own if not rest else any((base / text).exists() for base in bases or (Path(),)):
        return text
    if roots[-1].is_dir():
        known = [*entry.parts, *entry.layout]
        raise DataError(
            f"{text!r}: the data set {name} in {str(roots[-1])!r} has no {rest!r}",
            hint=did_you_mean(rest, known)
            if rest not in known
            else f"a part of the set is missing there: fetch it anew with aigc data get {name}",
        )
    raise DataError(f"{text!r} is not here: get it with aigc data get {name} ({shown_size(entry)})")


def modality_of(text: str) -> str | None:
    """What a built-in set or a set of the catalog says that it is made of; None for others."""
    if text.startswith(PREFIX):
        known = builtins().get(text.removeprefix(PREFIX).partition(":")[0])
        return known.modality if known else None
    name = text.partition("/")[0]
    return load(name).modality if name in names() and not _may_hold_data(Path(text)) else None


def holds_run(path: Path) -> bool:
    """Whether it is the folder of a training run, as run/paths.py lays it out."""
    files = ("run.lock", "recipe.yaml", "status.json", "metrics.jsonl")
    if not os.path.isdir(path / "checkpoints"):
        return False
    return any(os.path.isfile(path / name) for name in files)


def require_no_run(path: Path) -> None:
    """
    Raises:
        DataError: it is the folder of a run.
    """
    if holds_run(path):
        text = shlex.quote(str(path))
        raise DataError(
            f"{str(path)!r} is the folder of a run, not of data",
            hint=f"name the data; or go on with the run: aigc train --resume {text}",
        )


def _may_hold_data(path: Path) -> bool:
    """Whether it is there, and neither the folder of a run nor an empty one."""
    if not os.path.isdir(path):
        return os.path.exists(path)
    try:
        return not holds_run(path) and bool(os.listdir(path))
    except OSError:  # cannot be listed; whoever opens it says so
        return True


def _below(root: Path, rest: str, entry: Entry) -> Iterator[str]:
    """What `rest` means in a folder of the set: a part by name, a path, or one of them packed."""
    if not root.is_dir():
        return
    first = next(iter(entry.parts), "")
    for inner in dict.fromkeys((entry.parts.get(rest or first, rest), rest)):
        path = root / inner
        if path.exists():
            yield str(path.resolve())
        elif path.with_name(f"{path.name}.gz").exists():
            yield str(path.resolve().with_name(f"{path.name}.gz"))
        arrays, colon, part = inner.partition(".npz:")
        if colon and (root / f"{arrays}.npz").is_file():
            yield f"{(root / arrays).resolve()}.npz:{part}"
        top, _, below = inner.partition("/")
        if below and (root / f"{top}.zip").exists():
            yield f"{(root / f'{top}.zip').resolve()}/{below}"


def shown_size(entry: Entry) -> str:
    """How much there is to fetch, for people."""
    if not entry.size:
        return "size unknown"
    return size_text(entry.size) if entry.is_measured else f"over {size_text(entry.size)}"


def size_text(size: int) -> str:
    """Bytes for people.

    >>> size_text(5_200), size_text(1_115_394), size_text(448_993_893)
    ('5.2 kB', '1.1 MB', '449 MB')
    """
    if size < 100_000:
        return f"{max(size / 1e3, 0.1):.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:,.0f} MB"
