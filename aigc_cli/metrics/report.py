"""Scores of a corpus with their intervals and, against a second system, their significance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aigc_cli.errors import DataError
from aigc_cli.metrics._corpus import Measured, mean_of
from aigc_cli.metrics._metric import CorpusMetric, ItemMetric, Metric, PairMetric
from aigc_cli.metrics._significance import LEVEL, SEED, bootstrap, interval, paired_p

Refs = Sequence[Sequence[Any]]


def item_scores(metric: Metric, preds: Sequence[Any], refs: Refs) -> list[float]:
    """One metric's score of each thing, in the range that `aigc evaluate` reports it; for rewards.

    Raises:
        DataError: the numbers of things differ. InputError: the metric is of sets, or does not fit.
    """
    check_things([metric], preds, refs)
    return measure(metric, preds, refs).items


def measure(metric: Metric, preds: Sequence[Any], refs: Refs) -> Measured:
    """Any metric that has a score for each thing; of pairs, that of the best reference.

    Raises:
        DataError: it is of sets.
    """
    match metric:
        case CorpusMetric():
            return metric.compute(preds, refs)
        case ItemMetric():
            return mean_of([metric.compute(thing) for thing in preds], metric.describe())
        case PairMetric():
            best = max if metric.higher_is_better else min
            return mean_of(
                [
                    best(metric.compute(thing, ref) for ref in several)
                    for thing, several in zip(preds, refs, strict=True)
                ],
                metric.describe(),
            )
    raise DataError(f"{metric.name} is of whole sets and has no score for each of their things")


def corpus_report(
    metrics: Sequence[Metric],
    preds: Sequence[Any],
    refs: Refs,
    *,
    baseline: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """{"metrics": {name: value, 95 % interval, signature ...}, "items": a row for each thing}, as
    in the reports of `aigc evaluate`. `baseline` has another system's things: its value, the
    difference, and p of a paired bootstrap. Metrics without references take none from `refs`.

    Raises:
        InputError, DataError, MissingError: as `item_scores`.
    """
    check_things(metrics, preds, refs)
    if baseline is not None:
        check_things(metrics, baseline, refs, "baseline")
    scores: dict[str, Any] = {}
    items: list[dict[str, Any]] = [{"line": i + 1} for i in range(len(preds))]
    for metric in metrics:
        measured = measure(metric, preds, refs)
        other = None if baseline is None else measure(metric, baseline, refs)
        scores[metric.name] = _row(metric, measured, other)
        for item, value in zip(items, measured.items, strict=True):
            item[metric.name] = round(value, 6)
    return {"metrics": scores, "items": items}


def check_things(
    metrics: Sequence[Metric], preds: Sequence[Any], refs: Refs, what: str = "generated"
) -> None:
    """
    Raises:
        DataError: nothing to score, or numbers that differ. InputError: an option that does not
            fit. MissingError: what a metric needs is absent.
    """
    if not preds:
        raise DataError("there is nothing to score")
    for metric in metrics:
        metric.prepare()
        if metric.reference and len(preds) != len(refs):
            raise DataError(f"{len(preds)} {what} things and {len(refs)} references do not pair")
        if isinstance(metric, CorpusMetric):
            metric.check(preds, refs)


def _row(metric: Metric, measured: Measured, other: Measured | None) -> dict[str, Any]:
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
