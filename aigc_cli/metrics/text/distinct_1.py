"""Different words, divided by words."""

from __future__ import annotations

from aigc_cli.metrics.text.distinct import Distinct


class Metric(Distinct):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "different words / words"
    reference = False
    n = 1
