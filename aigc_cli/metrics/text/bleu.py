"""BLEU of a corpus, sacreBLEU's own."""

from __future__ import annotations

from typing import Any

from sacrebleu.metrics.bleu import BLEU

from aigc_cli.metrics._corpus import Measured
from aigc_cli.metrics.text._sacre import BLEUOptions, measure, open_bleu, tokenizer
from aigc_cli.metrics.text._text import References, TextMetric, Texts


class Metric(TextMetric):
    """0 to 100; items are sentence BLEU with effective order."""

    of = "corpus"
    higher_is_better = True
    unit = "0-100"
    protocol = "corpus BLEU of sacreBLEU, 13a or the language's tokenizer"

    class Options(BLEUOptions):
        """What `METRIC.KEY=VALUE` may set."""

    def prepare(self, device: str = "cpu") -> None:
        tokenizer(self.options)

    def check(self, preds: Texts, refs: References) -> None:
        if self.options.tokenize is None:
            super().check(preds, refs)

    def compute(self, preds: Texts, refs: References) -> Measured:
        return measure(open_bleu(self.options), preds, refs, of_sentence)


def of_sentence(row: Any) -> float:
    length, closest, *counts = row
    found = BLEU.compute_bleu(
        counts[:4], counts[4:], length, closest, smooth_method="exp", effective_order=True
    )
    return float(found.score)
