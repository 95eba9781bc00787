"""F1 over the tokens of short answers."""

from __future__ import annotations

from collections import Counter

from aigc_cli.metrics.text._answers import Answers


class Metric(Answers):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean F1 of tokens, as SQuAD"

    def same(self, pred: list[str], target: list[str]) -> float:
        if not pred or not target:
            return float(pred == target)
        common = (Counter(pred) & Counter(target)).total()
        return 2 * common / (len(pred) + len(target))
