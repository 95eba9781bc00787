"""Token F1 and exact match of short answers: Rajpurkar et al., 2016,
https://aclanthology.org/D16-1264, normalized as SQuAD 2.0's script does for English.
"""

from __future__ import annotations

import re
import string
from abc import abstractmethod

from aigc_cli.metrics._corpus import Measured, count_references, mean_of
from aigc_cli.metrics.text._language import words, words_name
from aigc_cli.metrics.text._text import References, TextMetric, Texts

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def squad_tokens(text: str) -> list[str]:
    """Lower-cased words without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


class Answers(TextMetric):
    """Mean of `same` of the best reference, over tokens; over characters in Chinese, Japanese."""

    @abstractmethod
    def same(self, pred: list[str], target: list[str]) -> float: ...

    def compute(self, preds: Texts, refs: References) -> Measured:
        lang = self.options.lang
        english = lang == "en"

        def tokens(text: str) -> list[str]:
            return squad_tokens(text) if english else words(text, lang)

        items = [
            max(self.same(tokens(pred), tokens(ref)) for ref in several)
            for pred, several in zip(preds, refs, strict=True)
        ]
        name = "squad" if english else words_name(lang)
        return mean_of(items, f"{count_references(refs)}|tok:{name}|case:lc|punct:no")
