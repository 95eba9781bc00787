"""Recall, precision and F1 of each class, out of how often it was named."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from aigc_cli.metrics._corpus import Measured
from aigc_cli.metrics._metric import CorpusMetric

Counts = np.ndarray[Any, np.dtype[np.int64]]
"""(K, K): how often what is of class i was named j."""


def count(preds: Sequence[str], target: Sequence[str], names: Sequence[str]) -> Counts:
    """Labels of N things, given and true."""
    number = {name: i for i, name in enumerate(names)}
    table: Counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for named, true in zip(preds, target, strict=True):
        table[number[true], number[named]] += 1
    return table


def by_class(counts: Counts, names: Sequence[str]) -> list[dict[str, Any]]:
    """Number, recall, precision and F1 of each class (None where there is nothing to divide by),
    and the class that it is most often mistaken for.
    """
    rows = []
    for i, name in enumerate(names):
        n, named, right = int(counts[i].sum()), int(counts[:, i].sum()), int(counts[i, i])
        wrong = counts[i].copy()
        wrong[i] = 0
        other = int(wrong.argmax())
        rows.append(
            {
                "class": name,
                "n": n,
                "recall": right / n if n else None,
                "precision": right / named if named else None,
                "f1": 2 * right / (n + named) if n + named else None,
                "mistaken for": f"{names[other]} ({wrong[other]})" if wrong.any() else None,
            }
        )
    return rows


class Macro(CorpusMetric):
    """Mean over the classes, each counting the same, however many things are of it."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Which number of `by_class`."""

    def compute(self, preds: Sequence[str], refs: Sequence[Sequence[str]]) -> Measured:
        target = [several[0] for several in refs]
        names = sorted({*preds, *target})
        rows = by_class(count(preds, target, names), names)
        values = [row[self.key] for row in rows if row[self.key] is not None]
        return Measured(
            f"mean {self.key} of {len(values)} classes",
            [float(a == b) for a, b in zip(preds, target, strict=True)],
            float(np.mean(values)),
        )
