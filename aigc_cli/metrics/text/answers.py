"""Token F1 and exact match of short answers: Rajpurkar et al., 2016,
https://aclanthology.org/D16-1264, normalised as SQuAD 2.0's script does for English.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable

from aigc_cli.metrics.text._measure import (
    Measured,
    References,
    TextOptions,
    Texts,
    count_references,
    mean_of,
)
from aigc_cli.metrics.text.language import words, words_name

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def token_f1(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    """Mean of the best reference's F1 over tokens, 0 to 1; per character in Chinese, Japanese."""
    return _mean(_f1, hyps, refs, options)


def exact_match(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    """Share of texts whose tokens are those of a reference, 0 to 1."""
    return _mean(lambda pred, target: float(pred == target), hyps, refs, options)


def squad_tokens(text: str) -> list[str]:
    """Lower-cased words without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _f1(pred: list[str], target: list[str]) -> float:
    if not pred or not target:
        return float(pred == target)
    same = (Counter(pred) & Counter(target)).total()
    return 2 * same / (len(pred) + len(target))


def _mean(
    compare: Callable[[list[str], list[str]], float],
    hyps: Texts,
    refs: References,
    options: TextOptions,
) -> Measured:
    english = options.lang == "en"

    def tokens(text: str) -> list[str]:
        return squad_tokens(text) if english else words(text, options.lang)

    items = [
        max(compare(tokens(hyp), tokens(ref)) for ref in several)
        for hyp, several in zip(hyps, refs, strict=True)
    ]
    name = "squad" if english else words_name(options.lang)
    return mean_of(items, f"{count_references(refs)}|tok:{name}|case:lc|punct:no")
