"""Scores of texts with their intervals and, against a second system, their significance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigc_cli.errors import DataError, InputError, did_you_mean
from aigc_cli.metrics.text._measure import ENGLISH, Measured, References, TextOptions, Texts
from aigc_cli.metrics.text.language import check_script
from aigc_cli.metrics.text.significance import (
    LEVEL,
    SEED,
    bootstrap,
    interval,
    paired_p,
)
from aigc_cli.metrics.text.table import TEXT_GROUPS, TEXT_METRICS, TextMetric


def sentence_scores(
    name: str, hyps: Texts, refs: References, options: TextOptions = ENGLISH
) -> list[float]:
    """One metric's score of each text, in the range that `aigc evaluate` reports it; for rewards.

    Raises:
        InputError: unknown metric. DataError: the numbers of texts differ. MissingError: what the
            metric needs is absent.
    """
    metric = find_metric(name)
    check_texts([metric], hyps, refs, options)
    return metric.measure(hyps, refs, options).items


def corpus_report(
    names: Sequence[str],
    hyps: Texts,
    refs: References,
    options: TextOptions = ENGLISH,
    *,
    baseline: Texts | None = None,
) -> dict[str, Any]:
    """{"metrics": {name: value, 95 % interval, signature ...}, "items": a row for each text}, as in
    the reports of `aigc evaluate`. `baseline` has another system's texts: its value, the
    difference, and p of a paired bootstrap. Metrics without references take none from `refs`.

    Raises:
        InputError, DataError, MissingError: as `sentence_scores`.
    """
    metrics = [find_metric(name) for name in names]
    check_texts(metrics, hyps, refs, options)
    if baseline is not None:
        check_texts(metrics, baseline, refs, options, "baseline")
    scores: dict[str, Any] = {}
    items: list[dict[str, Any]] = [{"line": i + 1} for i in range(len(hyps))]
    for metric in metrics:
        measured = metric.measure(hyps, refs, options)
        other = None if baseline is None else metric.measure(baseline, refs, options)
        scores[metric.name] = _row(metric, measured, other)
        for item, value in zip(items, measured.items, strict=True):
            item[metric.name] = round(value, 6)
    return {"metrics": scores, "items": items}


def find_metric(name: str) -> TextMetric:
    """
    Raises:
        InputError: there is none of that name.
    """
    if name not in TEXT_METRICS:
        hint = did_you_mean(name, [*TEXT_METRICS, *TEXT_GROUPS])
        raise InputError(f"unknown metric {name!r}", hint=hint)
    return TEXT_METRICS[name]


def check_texts(
    metrics: Sequence[TextMetric],
    hyps: Texts,
    refs: References,
    options: TextOptions,
    what: str = "generated",
) -> None:
    """
    Raises:
        DataError: no texts, or their numbers differ. InputError: texts without blanks that a metric
            would look for. MissingError: what a metric needs is absent.
    """
    if not hyps:
        raise DataError("there is no text to score")
    for metric in metrics:
        metric.prepare(options)
        if metric.reference and len(hyps) != len(refs):
            raise DataError(f"{len(hyps)} {what} texts and {len(refs)} references do not pair")
    checked = [m for m in metrics if m.words and not (m.name == "bleu" and options.tokenize)]
    for language_of in (hyps, [ref for several in refs for ref in several]):
        if checked:
            check_script(language_of, options.lang, checked[0].name)


def _row(metric: TextMetric, measured: Measured, other: Measured | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "value": round(measured.value, 6),
        "n": len(measured.items),
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "protocol": measured.signature,
    }
    if other is not None:
        row["baseline"] = round(other.value, 6)
    if measured.stats is None:
        return row
    scores = bootstrap(measured)
    row["ci95"] = [round(bound, 6) for bound in interval(scores)]
    if "|bs:" not in measured.signature:
        row["protocol"] += f"|bs:{len(scores)}|seed:{SEED}"
    if other is not None:
        difference = measured.value - other.value
        p = paired_p(scores, bootstrap(other), difference)
        row |= {"difference": round(difference, 6), "p": round(p, 4)}
        row["verdict"] = verdict(difference, p, higher_is_better=metric.higher_is_better)
    return row


def verdict(difference: float, p: float, *, higher_is_better: bool) -> str:
    """better, worse, or tie where p is 0.05 or more."""
    if p >= LEVEL or difference == 0:
        return "tie"
    return "better" if (difference > 0) == higher_is_better else "worse"
