"""ROUGE-1: overlap of words."""

from __future__ import annotations

from aigc_cli.metrics.text.rouge import Overlap, Rouge, Tokens, rouge_n


class Metric(Rouge):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean F1 of words, as rouge-score"

    def score(self, target: Tokens, pred: Tokens) -> Overlap:
        return rouge_n(target, pred, 1)
