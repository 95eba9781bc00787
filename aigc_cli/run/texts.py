"""Texts of files or of a model compared with what they should say, and with another system's."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_cli.data._text_files import OBJECTS, Place, Record, TextFile
from aigc_cli.errors import DataError, InputError
from aigc_cli.metrics.text import TEXT_GROUPS, TEXT_METRICS, TextOptions, corpus_report
from aigc_cli.models._text import TextModule
from aigc_cli.run.devices import choose_device
from aigc_cli.run.folder import write_text
from aigc_cli.run.trained import Trained
from aigc_cli.run.writing import answers_to
from aigc_cli.sampling.decoding import Decoding

USUAL = ("bleu", "chrf")
ENDINGS = (".txt", ".jsonl", ".json")  # of files that are texts whatever is measured


def are_texts(path: Path, names: Sequence[str]) -> bool:
    """Whether a file or the metrics asked for are about texts."""
    named = path.with_suffix("") if path.suffix == ".gz" else path
    asked = any(name in TEXT_METRICS or name in TEXT_GROUPS for name in names)
    return asked or (not names and named.suffix in ENDINGS)


def compare_text_files(
    generated: Path,
    references: Sequence[Path],
    names: Sequence[str],
    *,
    baseline: Path | None = None,
    options: Mapping[str, Any],
    device: str = "auto",
    limit: int | None = None,
) -> dict[str, Any]:
    """The report of `aigc evaluate` for files with one text a line. `options` are those of
    `TextOptions` that were given.

    Raises:
        DataError: a file cannot be read, or files do not pair; names them and both counts.
        InputError: unknown names, or no reference for a metric that needs one. MissingError: what
            a metric needs is absent.
    """
    begun = time.monotonic()
    chosen = TextOptions(**options, device=str(choose_device(device)))
    known = [TEXT_METRICS[name] for name in names if name in TEXT_METRICS]
    if not references and (needy := [metric.name for metric in known if metric.reference]):
        raise InputError(
            f"{needy[0]} compares with what should be there", hint="add --reference FILE"
        )
    for metric in known:
        metric.prepare(chosen)  # before large files are read
    hyps = read_texts(generated)
    columns = [read_references(path) for path in references]
    other = None if baseline is None else read_texts(baseline)
    counts = [(path, len(rows)) for path, rows in zip(references, columns, strict=True)]
    if baseline is not None and other is not None:
        counts.append((baseline, len(other)))
    for path, count in counts:
        if count != len(hyps):
            raise DataError(
                f"{generated} has {len(hyps)} texts and {path} has {count}: they do not pair"
            )
    refs = [[text for texts in row for text in texts] for row in zip(*columns, strict=True)]
    report = corpus_report(
        names,
        hyps[:limit],
        refs[:limit],
        chosen,
        baseline=None if other is None else other[:limit],
    )
    return {
        "ok": True,
        "generated": str(generated),
        "reference": [str(path) for path in references],
        **({} if baseline is None else {"baseline": str(baseline)}),
        "lang": chosen.lang,
        **report,
        "seconds": round(time.monotonic() - begun, 1),
    }


def open_answers(
    trained: Trained,
    rows: Any,
    names: Sequence[str],
    *,
    baseline: Path | None,
    options: Mapping[str, Any],
    device: str,
    limit: int | None,
    seed: int,
    batch_size: int,
    save: Path | None,
    seen: Callable[[int], None],
) -> Callable[[], dict[str, Any]]:
    """Check what is asked of a model that writes texts; the job scores its answers to validation
    items, `rows.texts`. `save` gets answers.jsonl, which may be the baseline of another model.

    Raises: as `compare_text_files`.
    """
    languages = getattr(trained.spec, "languages", None)
    lang = {"lang": languages[1]} if languages else {}
    chosen = TextOptions(**{**lang, **options}, device=str(choose_device(device)))
    items = [rows.texts(number) for number in range(min(len(rows), limit or len(rows)))]
    for name in names:
        metric = TEXT_METRICS[name]
        metric.prepare(chosen)
        if metric.reference and not all(item["references"] for item in items):
            raise InputError(f"{name} compares with references, and the data has none")
    other = None if baseline is None else read_texts(baseline)
    if other is not None and len(other) != len(items):
        raise DataError(f"{len(items)} items and {len(other)} texts of {baseline} do not pair")

    def work() -> dict[str, Any]:
        prompts = [item.get("messages") or item["prompt"] for item in items]
        hyps, unread = [], 0
        for answer in answers_to(trained, prompts, seed=seed, batch_size=batch_size):
            hyps.append(answer.answer.text)
            unread += answer.error is not None  # such an answer is blank, and scored so
            seen(1)
        if save is not None:
            lines = [
                json.dumps({"prompt": item["prompt"], "text": text, "texts": item["references"]},
                           ensure_ascii=False)
                for item, text in zip(items, hyps, strict=True)
            ]  # fmt: skip
            write_text(save / "answers.jsonl", "\n".join(lines) + "\n")
        refs = [item["references"] for item in items]
        beside = other
        if beside is None:
            asked = [item["prompt"] for item in items]
            model, given = trained.model, trained.recipe.sample
            assert isinstance(model, TextModule)
            assert isinstance(given, Decoding)
            beside = model.baseline_texts(asked, given)
        facts = {"lang": chosen.lang, **({"unread": unread} if unread else {})}
        return {**facts, **corpus_report(names, hyps, refs, chosen, baseline=beside)}

    return work


def read_texts(path: Path) -> list[str]:
    """One text a line; of JSON, as `aigc sample --output` writes it, the key `text`.

    Raises:
        DataError: it cannot be read, or a row has no text; names the line.
    """
    file = TextFile(path, str(path))
    if file.form not in OBJECTS:
        return list(file.lines())
    return [_text(record, place) for place, record in file.records()]


def read_references(path: Path) -> list[list[str]]:
    """As `read_texts`, where an object may have several in `texts`."""
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
