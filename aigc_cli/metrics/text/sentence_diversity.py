"""How different the meanings of texts are from each other."""

from __future__ import annotations

from aigc_cli.errors import DataError
from aigc_cli.metrics._corpus import Measured, mean_of
from aigc_cli.metrics.text._sentences import SentenceMetric
from aigc_cli.metrics.text._text import References, Texts


class Metric(SentenceMetric):
    """Mean of 1 - cosine over all pairs of texts: 0 for texts that are all alike."""

    of = "corpus"
    higher_is_better = True
    unit = "0-2"
    protocol = "mean of 1 - cosine of sentence vectors of {encoder}, all pairs"
    reference = False

    def compute(self, preds: Texts, refs: References) -> Measured:
        """
        Raises:
            DataError: fewer than two texts.
        """
        N = len(preds)
        if N < 2:
            raise DataError(f"sentence_diversity compares texts with each other and got {N}")
        vectors = self.encoder.encode(preds)  # (N, D), of length 1
        others = vectors.sum(0) - vectors
        items = 1 - (vectors * others).sum(1) / (N - 1)
        return mean_of(items.tolist(), f"{self.options.encoder}|texts:{N}")
