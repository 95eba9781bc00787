"""Inception score: formula and source in `_inception_score`, since `is` is a word of Python."""

from __future__ import annotations

from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._inception_score import inception_score
from aigc_cli.metrics.image._set import FeatureMetric


class Metric(FeatureMetric):
    of = "set"
    higher_is_better = True
    protocol = "inception score, 10 splits, shuffled"
    reference = False
    classes = True

    def compute(self, side: Side) -> tuple[float, float]:
        return inception_score(side.logits)
