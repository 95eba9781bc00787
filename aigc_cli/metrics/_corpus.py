"""What a metric of a corpus gives back: a score for each thing and one for all, with statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Stats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Measured:
    """A metric of N things. The rows of `stats` (N, K) belong to one thing each; `compute` turns
    the sum of any of them into the score. A metric of all things together has no stats.
    """

    signature: str
    items: list[float]
    value: float
    stats: Stats | None = None
    compute: Callable[[Any], float] = lambda total: float(total[0] / total[1])


def mean_of(items: Sequence[float], signature: str) -> Measured:
    """A metric that is the plain mean of the things' scores."""
    values = np.asarray(items, dtype=np.float64)
    stats = np.stack([values, np.ones_like(values)], axis=1)
    return Measured(signature, values.tolist(), float(values.mean()), stats)


def count_references(refs: Sequence[Sequence[Any]]) -> str:
    """nrefs:2, or nrefs:var where things differ; the beginning of a signature, as in sacreBLEU."""
    counts = {len(several) for several in refs}
    return f"nrefs:{counts.pop() if len(counts) == 1 else 'var'}"
