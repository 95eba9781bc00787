"""Share of answers whose tokens are those of a reference."""

from __future__ import annotations

from aigc_cli.metrics.text._answers import Answers


class Metric(Answers):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "share of equal answers, as SQuAD"

    def same(self, pred: list[str], target: list[str]) -> float:
        return float(pred == target)
