"""Files in the rows of a Hugging Face data set: recordings, or any files in a column of bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from aigc_cli.data._names import clean_name
from aigc_cli.data._sources._hugging_face import load_split
from aigc_cli.errors import DataError

STARTS = {
    b"MThd": ".mid", b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff",
    b"ID3": ".mp3", b"\xff\xfb": ".mp3", b"X:": ".abc",
}  # fmt: skip
"""What files begin with that come without a name."""


def rows_in(
    text: str, endings: tuple[str, ...], most: int, what: str, bases: Sequence[Path]
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file in `name[:split]`, as `_named_files.files_in` gives them. The
    name is `CLASS/row-NUMBER.ENDING`, without the class where no column is one.

    Raises:
        DataError: no such data set, or no column that holds files. MissingError: `datasets` is not
            installed.
    """
    split, name = load_split(text, bases)
    column, label = _columns(split, name, what)
    kind = split.features[column]
    if type(kind).__name__ == "Audio":
        split = split.cast_column(column, type(kind)(decode=False))
    digits = len(str(max(len(split) - 1, 0)))
    for number, row in enumerate(split):
        content, path = _content(row[column])
        ending = Path(path).suffix.lower() or next(
            (ending for start, ending in STARTS.items() if content.startswith(start)), endings[0]
        )
        if ending in endings:
            stem = f"row-{number:0{digits}d}{ending}"
            of = "" if label is None else f"{split.features[label].int2str(row[label])}/"
            yield clean_name(of + stem), content[: most + 1]


def _columns(split: Any, name: str, what: str) -> tuple[str, str | None]:
    """The column of files, recordings before plain bytes, and that of classes. Raises DataError."""
    import datasets

    features = split.features
    files = [c for c, kind in features.items() if isinstance(kind, datasets.Audio)]
    files += [c for c, kind in features.items() if getattr(kind, "dtype", None) == "binary"]
    if not files:
        raise DataError(
            f"{name!r} has no column that holds a {what}", hint=f"columns: {', '.join(features)}"
        )
    labels = [c for c, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    return files[0], labels[0] if labels else None


def _content(cell: Any) -> tuple[bytes, str]:
    """The bytes of a cell, and the path that it tells; nothing of an empty one."""
    if cell is None:
        return b"", ""
    if isinstance(cell, bytes):
        return cell, ""
    path = cell["path"] or ""
    return Path(path).read_bytes() if cell["bytes"] is None else cell["bytes"], path
