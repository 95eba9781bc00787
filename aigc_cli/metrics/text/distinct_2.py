"""Different pairs of words, divided by pairs."""

from __future__ import annotations

from aigc_cli.metrics.text.distinct import Distinct


class Metric(Distinct):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "different pairs of words / pairs"
    reference = False
    n = 2
