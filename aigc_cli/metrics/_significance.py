"""Bootstrap resampling: intervals for one system, and whether two systems really differ.

Koehn, "Statistical Significance Tests for Machine Translation Evaluation", 2004,
https://aclanthology.org/W04-3250, with the resamples, interval and p of sacreBLEU: its seed gives
its numbers. Things are drawn with replacement and their statistics added up, so nothing is scored
twice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aigc_cli.metrics._corpus import Measured

RESAMPLES = 1000
SEED = 12345
LEVEL = 0.05  # p from which a difference is called a tie

Scores = NDArray[np.floating[Any]]


class Interval(NamedTuple):
    low: float
    high: float


def bootstrap(measured: Measured, seed: int = SEED) -> Scores:
    """Scores of 1000 resamples. Two systems on the same texts get the same resamples."""
    assert measured.stats is not None
    stats = measured.stats
    random = np.random.default_rng(seed)
    scores = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        times = np.bincount(random.choice(len(stats), size=len(stats)), minlength=len(stats))
        scores[i] = measured.compute((times @ stats).astype(np.float32))  # as sacreBLEU rounds
    return scores


def interval(scores: Scores) -> Interval:
    """The middle 95 % of resampled scores."""
    ordered = np.sort(scores)
    cut = len(ordered) // 40
    return Interval(float(ordered[cut]), float(ordered[-cut - 1]))


def paired_p(system: Scores, baseline: Scores, difference: float) -> float:
    """How likely a difference as large as |difference| is by the choice of things alone, from the
    scores of both systems on the same resamples; 1 where there is none.
    """
    if difference == 0:  # every difference is as large, which sacreBLEU calls 1 in 1001
        return 1.0
    found = np.abs(system - baseline)
    exceeding = int((found - found.mean() > abs(difference)).sum())
    return (exceeding + 1) / (len(found) + 1)
