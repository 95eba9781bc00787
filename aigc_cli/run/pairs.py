"""Things compared one by one with what they should be, whatever they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import stdev
from typing import Any

from aigc_cli.errors import DataError
from aigc_cli.metrics._metric import ItemMetric, Metric, PairMetric
from aigc_cli.metrics._things import Pair


def compare_pairs(
    pairs: Iterable[Pair],
    metrics: Sequence[Metric],
    *,
    seen: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """{"metrics": means with what stands beside them, "items": a row for each pair}.

    Raises:
        DataError: two cannot be compared, which it names, or there are none.
    """
    scores = [Score(metric) for metric in metrics]
    rows = []
    for pair in pairs:
        row: dict[str, Any] = {"name": pair.name}
        for score in scores:
            row[score.metric.name] = plain(score.add(pair))
        rows.append(row)
        seen(pair.name)
    if not rows:
        raise DataError("there is nothing to compare")
    return {"metrics": {score.metric.name: score.as_dict() for score in scores}, "items": rows}


class Score:
    """A metric over all pairs; beside it the same of what needs no model, and the metric with
    other options that are usual (`PairMetric.variants`).
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.variants = metric.variants() if isinstance(metric, PairMetric) else {}
        self.values: list[float] = []
        self.beside: dict[str, list[float]] = {}

    def add(self, pair: Pair) -> float:
        """Measure one pair; returns the value.

        Raises:
            DataError: the two cannot be compared; names them.
        """
        try:
            self.values.append(_measured(self.metric, pair.preds, pair.target))
            for name, thing in pair.beside.items():
                found = _measured(self.metric, thing, pair.target)
                self.beside.setdefault(name, []).append(found)
            for name, other in self.variants.items():
                found = _measured(other, pair.preds, pair.target)
                self.beside.setdefault(name, []).append(found)
        except DataError as error:
            raise DataError(f"{pair.name}: {error.message}", hint=error.hint) from error
        return self.values[-1]

    def as_dict(self) -> dict[str, Any]:
        metric = self.metric
        return {
            "value": plain(_mean(self.values)),
            "n": len(self.values),
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "protocol": metric.describe(),
            **self._spread(),
            **{name: plain(_mean(values)) for name, values in self.beside.items()},
        }

    def _spread(self) -> dict[str, Any]:
        """Standard deviations of what is measured of single things, also of real ones beside."""
        if not isinstance(self.metric, ItemMetric):
            return {}
        rows = {"std": self.values, "real_std": self.beside.get("real", ())}
        return {name: plain(stdev(values)) for name, values in rows.items() if len(values) > 1}


def _measured(metric: Metric, preds: Any, target: Any) -> float:
    if isinstance(metric, ItemMetric):
        return metric.compute(preds)
    assert isinstance(metric, PairMetric)
    return metric.compute(preds, target)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def plain(value: float) -> float | str | None:
    """As JSON has it: equal things have an infinite PSNR; None is not defined."""
    if math.isnan(value):
        return None
    return round(value, 6) if math.isfinite(value) else str(value)
