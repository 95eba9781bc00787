"""chrF2 of a corpus: n-grams of up to 6 characters, recall counting twice."""

from __future__ import annotations

from sacrebleu.metrics.chrf import CHRF

from aigc_cli.metrics._corpus import Measured
from aigc_cli.metrics.text._sacre import measure
from aigc_cli.metrics.text._text import References, TextMetric, Texts
from aigc_cli.recipe.sections import Section


class Metric(TextMetric):
    of = "corpus"
    higher_is_better = True
    unit = "0-100"
    protocol = "corpus chrF2 of sacreBLEU"
    words = False

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        lowercase: bool = False
        """Whether only lower-case letters are looked at."""

    def compute(self, preds: Texts, refs: References) -> Measured:
        return measure(CHRF(lowercase=self.options.lowercase), preds, refs)
