"""ROUGE-1, -2, -L and -Lsum: Lin, 2004, https://aclanthology.org/W04-1013.

Equal to the package rouge-score 0.1.2 for English (its tokens, its stemmer, its clipped union of
common subsequences), and with tokens of its own where rouge-score, which deletes every character
but a-z and 0-9, would compare nothing. The score of several texts is the plain mean of F1, where
rouge-score has the median of unseeded resamples.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import regex

from aigc_cli.metrics._corpus import Measured, count_references, mean_of
from aigc_cli.metrics.text._language import porter, words, words_name
from aigc_cli.metrics.text._text import LanguageOptions, References, TextMetric, Texts

GROUP = ("rouge_1", "rouge_2", "rouge_l", "rouge_lsum")
Tokens = Sequence[str]
Tokenize = Callable[[str], list[str]]

_ASCII = re.compile(r"[a-z0-9]+")
_CLOSER = r"[\p{Pe}\p{Pf}\"']"
_END = regex.compile(
    # behind a mark that needs no blank, as in Chinese; or a blank before what may open a sentence
    rf"(?<=[\p{{STerm}}--[.!?]]{_CLOSER}*)(?!{_CLOSER}|\p{{STerm}})"
    rf"|(?<=[.!?]{_CLOSER}*)\s+(?=[\p{{Lu}}\p{{N}}\p{{Pi}}\p{{Ps}}\"'\p{{Lo}}])|\n",
    regex.V1,
)
_ABBREVIATION = regex.compile(r"(?:^|\W)(?:\p{Lu}|Mr|Mrs|Ms|Dr|Prof|St|vs|etc|e\.g|i\.e|No|Fig)\.$")


class Overlap(NamedTuple):
    """Each in [0, 1]; 1 is best."""

    precision: float
    recall: float
    f1: float


def rouge_n(target: Tokens, pred: Tokens, n: int) -> Overlap:
    """Overlap of n-grams, each counted as often as it occurs in both."""
    wanted, made = (
        Counter(zip(*(tokens[i:] for i in range(n)), strict=False)) for tokens in (target, pred)
    )
    return _score((wanted & made).total(), wanted.total(), made.total())


def rouge_l(target: Tokens, pred: Tokens) -> Overlap:
    """The longest common subsequence of the whole texts."""
    return _score(_lcs_rows(target, pred)[-1].bit_count(), len(target), len(pred))


def rouge_lsum(target: Sequence[Tokens], pred: Sequence[Tokens]) -> Overlap:
    """For each sentence of the target the union of its longest common subsequences with those of
    the prediction; a token hits no more often than both texts have it.
    """
    wanted, made = (Counter(t for tokens in text for t in tokens) for text in (target, pred))
    sizes = wanted.total(), made.total()
    hits = 0
    for sentence in target:
        common = set().union(*(_lcs(sentence, other) for other in pred))
        for token in (sentence[i] for i in sorted(common)):
            if wanted[token] > 0 and made[token] > 0:
                hits += 1
                wanted[token] -= 1
                made[token] -= 1
    return _score(hits, *sizes)


def _score(hits: int, wanted: int, made: int) -> Overlap:
    precision, recall = hits / max(made, 1), hits / max(wanted, 1)
    both = precision + recall
    return Overlap(precision, recall, 2 * precision * recall / both if both else 0.0)


def _lcs_rows(target: Tokens, pred: Tokens) -> list[int]:
    """Row i has as many of its lowest j bits set as the longest common subsequence of the first i
    and j tokens has tokens: Hyyro, "Bit-Parallel LCS-length Computation Revisited", 2004.
    """
    places: dict[str, int] = {}
    for j, token in enumerate(pred):
        places[token] = places.get(token, 0) | 1 << j
    every = (1 << len(pred)) - 1
    open_ = every  # a bit is 0 where the subsequence grows
    rows = [0]
    for token in target:
        matches = open_ & places.get(token, 0)
        open_ = (open_ + matches | open_ - matches) & every
        rows.append(~open_ & every)
    return rows


def _lcs(target: Tokens, pred: Tokens) -> list[int]:
    """Places in the target of one longest common subsequence, the one rouge-score finds."""
    rows = _lcs_rows(target, pred)

    def length(i: int, j: int) -> int:
        return (rows[i] & (1 << j) - 1).bit_count()

    i, j, found = len(target), len(pred), []
    while i and j:
        if target[i - 1] == pred[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif length(i, j - 1) > length(i - 1, j):
            j -= 1
        else:
            i -= 1
    return found


class RougeOptions(LanguageOptions):
    """What `METRIC.KEY=VALUE` may set."""

    stem: bool = True
    """Whether English words are compared by their Porter stems."""


def tokenizer(options: RougeOptions) -> tuple[Tokenize, str]:
    """How the language's texts become tokens, and what a signature says of it."""
    if options.lang != "en":
        return lambda text: words(text, options.lang), f"tok:{words_name(options.lang)}|stem:no"
    if not options.stem:
        return lambda text: _ASCII.findall(text.lower()), "tok:rouge|stem:no"
    stem = porter()

    def stemmed(text: str) -> list[str]:
        return [stem(word) if len(word) > 3 else word for word in _ASCII.findall(text.lower())]

    return stemmed, "tok:rouge|stem:porter"


def sentences(text: str, split: str) -> list[str]:
    """Cut at line ends; `sentence` also cuts behind full stops, question and exclamation marks, but
    not behind initials and usual abbreviations.
    """
    if split == "newline":
        return [line for line in text.split("\n") if line]
    found: list[str] = []
    for part in _END.split(text):
        if found and _ABBREVIATION.search(found[-1]):
            found[-1] = f"{found[-1]} {part}"
        elif part.strip():
            found.append(part)
    return found


class Rouge(TextMetric):
    """Base of the four: the mean F1, of the best reference of each text, 0 to 1."""

    class Options(RougeOptions):
        """What `METRIC.KEY=VALUE` may set."""

    def prepared(self, text: str, tokens: Tokenize) -> Any:
        """What `score` compares: tokens, or those of each sentence."""
        return tokens(text)

    @abstractmethod
    def score(self, target: Any, pred: Any) -> Overlap: ...

    def compute(self, preds: Texts, refs: References) -> Measured:
        tokens, name = tokenizer(self.options)
        items = []
        for text, several in zip(preds, refs, strict=True):
            pred = self.prepared(text, tokens)
            items.append(max(self.score(self.prepared(r, tokens), pred).f1 for r in several))
        split = getattr(self.options, "split", None)
        where = f"|split:{split}" if split else ""
        return mean_of(items, f"{count_references(refs)}|f1|{name}{where}|as:rouge-score-0.1.2")
