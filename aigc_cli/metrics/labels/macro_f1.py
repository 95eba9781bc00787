"""The mean F1 of the classes."""

from __future__ import annotations

from aigc_cli.metrics.labels._classes import Macro


class Metric(Macro):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean f1 of the classes, each counting the same"
    key = "f1"
