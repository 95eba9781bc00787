"""BERTScore's recall: how near the tokens of the reference are to the made ones."""

from __future__ import annotations

from aigc_cli.metrics.text._bertscore import BertScore, Scores


class Metric(BertScore):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean recall of cosines of tokens in a layer of {model}, no idf, not rescaled"

    def pick(self, scores: Scores) -> float:
        return scores.recall
