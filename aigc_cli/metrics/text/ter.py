"""TER of a corpus: edits and shifts for 100 words of the references; 0 is best."""

from __future__ import annotations

from sacrebleu.metrics.ter import TER

from aigc_cli.metrics._corpus import Measured
from aigc_cli.metrics.text._language import CHARACTERS
from aigc_cli.metrics.text._sacre import measure
from aigc_cli.metrics.text._text import References, TextMetric, Texts


class Metric(TextMetric):
    """Chinese and Japanese are cut into characters."""

    of = "corpus"
    higher_is_better = False
    unit = "%"
    protocol = "corpus TER of sacreBLEU"

    def compute(self, preds: Texts, refs: References) -> Measured:
        asian = self.options.lang in CHARACTERS
        return measure(TER(normalized=asian, asian_support=asian), preds, refs)
