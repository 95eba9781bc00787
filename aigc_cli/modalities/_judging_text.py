"""What an evaluation needs to know of texts: files with a text a line, and answers of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_cli.data._text_files import OBJECTS, Place, Record, TextFile
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.files import write_bytes
from aigc_cli.metrics._things import Corpus, Sets, Things
from aigc_cli.modalities import _judging
from aigc_cli.modalities._judging import Reading, Trial


class Judging(_judging.Judging):
    """Texts, which pair by their lines."""

    usual = ("bleu", "chrf")
    endings = frozenset({".txt", ".jsonl", ".json", ".csv", ".tsv"})

    def open_corpus(
        self,
        generated: Path,
        references: Sequence[Path],
        baseline: Path | None,
        reading: Reading,
        limit: int | None,
    ) -> Corpus:
        """
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
        return Corpus(
            [str(number + 1) for number in range(len(preds[:limit]))],
            preds.__getitem__,
            refs.__getitem__ if refs else lambda number: [],
            None if other is None else other.__getitem__,
        )

    def open_set(
        self, path: Path, option: str, reading: Reading, limit: int | None
    ) -> tuple[Things, list[str]]:
        return _judging.Listed(read_texts(path)[:limit], str(path)), []

    def options(self, trial: Trial) -> Mapping[str, Any]:
        """The language that the recipe names for what is written."""
        languages = getattr(trial.model.spec, "languages", None)
        return {"lang": languages[1]} if languages else {}

    def made_corpus(self, trial: Trial) -> Corpus:
        """Answers to validation items, `rows.texts`; `trial.save` gets answers.jsonl, which may be
        the baseline of another model.

        Raises:
            DataError: a baseline does not pair.
        """
        rows = trial.open_data().val
        items = [rows.texts(number) for number in trial.first(rows)]
        other = None if trial.baseline is None else read_texts(trial.baseline)
        if other is not None and len(other) != len(items):
            raise DataError(
                f"{len(items)} items and {len(other)} texts of {trial.baseline} do not pair"
            )
        return Answers(trial, items, other)

    def made_sets(self, trial: Trial) -> Sets:
        raise InputError("metrics of sets look at no texts of models yet")


class Answers(Corpus):
    """What a model writes to items, once it is asked for; beside it the texts of a baseline, or
    those that need no model.
    """

    def __init__(self, trial: Trial, items: Sequence[Any], other: Sequence[str] | None) -> None:
        self.trial, self.items = trial, items
        self._texts: list[str] | None = None
        if other is None:
            prompts = [item["prompt"] for item in items]
            other = trial.model.baseline_texts(prompts, trial.recipe.sample)
        super().__init__(
            [str(number + 1) for number in range(len(items))],
            lambda number: self.texts[number],
            lambda number: items[number]["references"],
            None if other is None else other.__getitem__,
            has_references=all(item["references"] for item in items),
        )

    @property
    def texts(self) -> list[str]:
        if self._texts is None:
            self._texts = self._write()
            if self.trial.save is not None:
                self._save(self.trial.save / "answers.jsonl")
        return self._texts

    def _write(self) -> list[str]:
        from aigc_cli.modalities._modality import Task
        from aigc_cli.modalities.text import Modality, Prompts, Unread

        trial, texts, unread = self.trial, [], 0
        inputs = Prompts([item.get("messages") or item["prompt"] for item in self.items])
        task = Task(trial.model, trial.recipe, seed=trial.seed)
        for _, _, (answer,) in Modality().answers(task, inputs, trial.batch_size):
            is_unread = isinstance(answer, Unread)  # such an answer is blank, and scored so
            texts.append("" if is_unread else answer.text)
            unread += is_unread
            trial.seen(1)
        if unread:
            self.facts["unread"] = unread
        return texts

    def _save(self, path: Path) -> None:
        rows = [
            {"prompt": item["prompt"], "text": text, "texts": item["references"]}
            for item, text in zip(self.items, self.texts, strict=True)
        ]
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_bytes(path, lines.encode())


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
