"""How near the meaning of a text is to that of its reference."""

from __future__ import annotations

from aigc_cli.metrics._corpus import Measured, count_references, mean_of
from aigc_cli.metrics.text._sentences import SentenceMetric
from aigc_cli.metrics.text._text import References, Texts


class Metric(SentenceMetric):
    """Mean cosine of the vectors of a text and of the best of its references."""

    of = "corpus"
    higher_is_better = True
    unit = "-1 to 1"
    protocol = "mean cosine of sentence vectors of {encoder}"

    def compute(self, preds: Texts, refs: References) -> Measured:
        unique = list(dict.fromkeys([*preds, *(ref for several in refs for ref in several)]))
        vectors = dict(zip(unique, self.encoder.encode(unique), strict=True))
        items = [
            max(float(vectors[pred] @ vectors[ref]) for ref in several)
            for pred, several in zip(preds, refs, strict=True)
        ]
        return mean_of(items, f"{count_references(refs)}|{self.options.encoder}")
