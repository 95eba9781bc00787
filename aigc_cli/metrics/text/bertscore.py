"""BERTScore: F1 of `bertscore_precision` and `bertscore_recall`."""

from __future__ import annotations

from aigc_cli.metrics.text._bertscore import BertScore, Scores


class Metric(BertScore):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean F1 of cosines of tokens in a layer of {model}, no idf, not rescaled"

    def pick(self, scores: Scores) -> float:
        return scores.f1
