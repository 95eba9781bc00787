"""Files of texts, a text a line, as a corpus that metrics compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aigc_cli.data._text_files import OBJECTS, Place, Record, TextFile
from aigc_cli.errors import DataError, InputError
from aigc_cli.metrics._things import Corpus, Things
from aigc_cli.run.asked import Reading

USUAL = ("bleu", "chrf")
ENDINGS = (".txt", ".jsonl", ".json", ".csv", ".tsv")


class Reading_(Reading):
    """How texts are read, as KEY=VALUE: there is nothing to choose."""


def open_corpus(
    generated: Path,
    references: Sequence[Path],
    baseline: Path | None,
    reading: Reading,
    limit: int | None,
) -> Corpus:
    """Texts that pair by their lines.

    Raises:
        DataError: a file cannot be read, or files do not pair; names them and both counts.
    """
    preds = read_texts(generated)
    columns = [read_references(path) for path in references]
    other = None if baseline is None else read_texts(baseline)
    counts = [(path, len(rows)) for path, rows in zip(references, columns, strict=True)]
    if baseline is not None and other is not None:
        counts.append((baseline, len(other)))
    for path, count in counts:
        if count != len(preds):
            raise DataError(
                f"{generated} has {len(preds)} texts and {path} has {count}: they do not pair"
            )
    refs = [[text for texts in row for text in texts] for row in zip(*columns, strict=True)]
    names = [str(number + 1) for number in range(len(preds[:limit]))]
    return Corpus(
        names,
        preds.__getitem__,
        refs.__getitem__ if refs else lambda number: [],
        None if other is None else other.__getitem__,
    )


def open_set(
    path: Path, option: str, reading: Reading, limit: int | None
) -> tuple[Things, list[str]]:
    """
    Raises:
        InputError: texts are compared line by line.
    """
    raise InputError(f"{option}: metrics of sets look at no texts yet")


def samples_in(path: Path) -> Path:
    """samples.jsonl of a folder that `aigc sample` wrote; else the path itself."""
    return path / "samples.jsonl" if (path / "samples.jsonl").is_file() else path


def read_texts(path: Path) -> list[str]:
    """One text a line; of JSON, as `aigc sample --output` writes it, the key `text`.

    Raises:
        DataError: it cannot be read, or a row has no text; names the line.
    """
    path = samples_in(path)
    file = TextFile(path, str(path))
    if file.form not in OBJECTS:
        return list(file.lines())
    return [_text(record, place) for place, record in file.records()]


def read_references(path: Path) -> list[list[str]]:
    """As `read_texts`, where an object may have several in `texts`."""
    path = samples_in(path)
    file = TextFile(path, str(path))
    if file.form not in OBJECTS:
        return [[line] for line in file.lines()]
    return [_texts(record, place) for place, record in file.records()]


def _texts(record: Record, place: Place) -> list[str]:
    assert isinstance(record, dict)
    several = record.get("texts")
    if several is None:
        return [_text(record, place)]
    if not isinstance(several, list) or not several or not all(isinstance(t, str) for t in several):
        raise DataError(f"{place}: 'texts' is not a list of texts")
    return several


def _text(record: Record, place: Place) -> str:
    assert isinstance(record, dict)
    text = record.get("text")
    if not isinstance(text, str):
        raise DataError(f"{place}: no text under 'text'; its keys: {', '.join(record) or 'none'}")
    return text
