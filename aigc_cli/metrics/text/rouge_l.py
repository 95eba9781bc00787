"""ROUGE-L: the longest common subsequence."""

from __future__ import annotations

from aigc_cli.metrics.text.rouge import Overlap, Rouge, Tokens, rouge_l


class Metric(Rouge):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean F1 of the longest common subsequence, as rouge-score"

    def score(self, target: Tokens, pred: Tokens) -> Overlap:
        return rouge_l(target, pred)
