"""How varied texts are, without any reference: distinct-n (Li et al., 2016,
https://aclanthology.org/N16-1014).
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

from sacrebleu.metrics.bleu import BLEU

from aigc_cli.metrics._corpus import Measured
from aigc_cli.metrics.text._language import CHARACTERS, words
from aigc_cli.metrics.text._text import References, TextMetric, Texts

GROUP = ("distinct_1", "distinct_2")


class Distinct(TextMetric):
    """Different n-grams of all texts together, divided by their number: 0 to 1. It falls with the
    number of texts, so compare only equal numbers of them. Items are the same of each text.
    """

    reference = False
    n: ClassVar[int]

    def compute(self, preds: Texts, refs: References) -> Measured:
        lang = self.options.lang
        characters = lang in CHARACTERS
        tokenize = BLEU(tokenize="13a").tokenizer
        grams = []
        for text in preds:
            tokens = words(text, lang) if characters else tokenize(text.rstrip()).split()
            grams.append(Counter(zip(*(tokens[i:] for i in range(self.n)), strict=False)))
        together: Counter[tuple[str, ...]] = Counter()
        for one in grams:
            together.update(one)
        name = "char|case:lc" if characters else "13a|case:mixed"
        return Measured(
            f"n:{self.n}|tok:{name}|of:{together.total()}",
            [_share(one) for one in grams],
            _share(together),
        )


def _share(grams: Counter[tuple[str, ...]]) -> float:
    return len(grams) / grams.total() if grams else 0.0
