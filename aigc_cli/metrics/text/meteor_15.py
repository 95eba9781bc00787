"""METEOR 1.5: Denkowski and Lavie, 2014, https://aclanthology.org/W14-3348.

Words match exactly, by Snowball stem or by synonym; an alignment is the one with most matches,
fewest chunks, smallest distances that a beam search finds; precision and recall weigh the kinds of
match and count function words less. The corpus score is that of the summed statistics, which have
a chunk for each text, so even texts equal to their references stay below 1 together.

Differs from the Java program: no paraphrase tables (their files are not part of any package), its
normalization is the 13a tokenizer in lower case, and without METEOR's data folder the English
function words are those of `_meteor_data`. The signature says what was in use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from aigc_cli.metrics._corpus import Measured, count_references
from aigc_cli.metrics.text._language import CHARACTERS, stemmer, stemmer_name, words
from aigc_cli.metrics.text._meteor_data import load_function_words, load_synonyms
from aigc_cli.metrics.text._text import References, TextMetric, Texts

BEAM = 40
EXACT, STEM, SYNONYM = range(3)
COVERS = (1.0, 0.5, 0.5)  # what a match of each kind counts when alignments are compared


class Parameters(NamedTuple):
    """alpha weighs recall, beta and gamma shape the penalty, delta weighs content words."""

    alpha: float
    beta: float
    gamma: float
    delta: float
    weights: tuple[float, float, float]
    """Of exact, stem and synonym matches."""


PARAMETERS = {
    "en": Parameters(0.85, 0.20, 0.60, 0.75, (1.0, 0.6, 0.8)),
    "cs": Parameters(0.95, 0.20, 0.60, 0.80, (1.0, 0.4, 0.0)),
    "de": Parameters(0.95, 1.00, 0.55, 0.55, (1.0, 0.8, 0.2)),
    "es": Parameters(0.65, 1.30, 0.50, 0.80, (1.0, 0.8, 0.6)),
    "fr": Parameters(0.90, 1.40, 0.60, 0.65, (1.0, 0.2, 0.4)),
}
OTHER = Parameters(0.75, 1.40, 0.70, 0.50, (1.0, 0.5, 0.5))
"""Independent of the language; function words count as much as others."""

Matches = Sequence[Sequence[tuple[int, int]]]
"""For each word of one text (place in the other text, kind) of what it may match."""


class _Partial(NamedTuple):
    """An alignment of the first words, the better the smaller."""

    uncovered: float
    chunks: int
    distance: int
    used: int  # bits of places in the reference
    pairs: tuple[tuple[int, int, int], ...]  # (place, place in the reference, kind)


def align(matches: Matches, beam: int = BEAM) -> tuple[tuple[int, int, int], ...]:
    """Pairs (i, j, kind) that use no word twice: most matches, exact ones counting double, then
    fewest chunks, then least distance.
    """
    states = [_Partial(0.0, 0, 0, 0, ())]
    for i, choices in enumerate(matches):
        longer = [] if choices else states
        for state in states if choices else ():
            longer.append(state)
            last = state.pairs[-1][:2] if state.pairs else None
            for j, kind in choices:
                if not state.used >> j & 1:
                    longer.append(
                        _Partial(
                            state.uncovered - COVERS[kind],
                            state.chunks + (last != (i - 1, j - 1)),
                            state.distance + abs(i - j),
                            state.used | 1 << j,
                            (*state.pairs, (i, j, kind)),
                        )
                    )
        states = sorted(longer)[:beam]
    return states[0].pairs


def count_chunks(pairs: Sequence[tuple[int, int, int]]) -> int:
    """Runs of matches that are neighbors in both texts."""
    places = {(i, j) for i, j, _ in pairs}
    return sum((i - 1, j - 1) not in places for i, j in places)


def statistics(
    hyp: Sequence[str], ref: Sequence[str], matches: Matches, function: Collection[str]
) -> list[float]:
    """[content, function words] of hyp and of ref, the same of their matches for each kind, chunks:
    4 + 12 + 1 numbers that add up over texts.
    """
    pairs = align(matches)
    row = np.zeros(17)
    for side, text in enumerate((hyp, ref)):
        for word in text:
            row[2 * side + (word in function)] += 1
        for pair in pairs:
            kind = pair[2]
            row[4 + 4 * kind + 2 * side + (text[pair[side]] in function)] += 1
    row[16] = count_chunks(pairs)
    return row.tolist()


def score(row: Any, parameters: Parameters) -> float:
    """(1 - gamma (chunks / matches)^beta) PR / (alpha P + (1 - alpha) R), in [0, 1]; no penalty for
    a text that matches as a whole.
    """
    alpha, beta, gamma, delta, weights = parameters
    lengths = np.reshape(row[:4], (2, 2))  # (side, content or function)
    found = np.reshape(row[4:16], (3, 2, 2))  # (kind, side, content or function)
    by_class = np.array([delta, 1 - delta])
    made, wanted = lengths @ by_class
    if not found.any() or not made or not wanted:
        return 0.0
    weighted = np.tensordot(weights, found, 1) @ by_class
    P, R = weighted / (made, wanted)
    if not P or not R:
        return 0.0
    whole = row[16] == 1 and (found.sum(0) == lengths).all()
    penalty = 0.0 if whole else gamma * (row[16] / (found.sum() / 2)) ** beta
    return max(0.0, float((1 - penalty) * P * R / (alpha * P + (1 - alpha) * R)))


class Metric(TextMetric):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "corpus METEOR 1.5"

    def compute(self, preds: Texts, refs: References) -> Measured:
        """The score of the statistics of each text and its best reference, 0 to 1."""
        lang = self.options.lang
        cut = _tokenizer(lang)
        synonyms = load_synonyms(lang)
        function, source = load_function_words(lang)
        known = PARAMETERS.get(lang) if function else None
        parameters = known or OTHER
        stem = stemmer(lang)

        def matches(hyp: Sequence[str], ref: Sequence[str]) -> Matches:
            exact, stems = defaultdict(list), defaultdict(list)
            for j, word in enumerate(ref):
                exact[word].append(j)
                stems[stem(word)].append(j)
            senses = [synonyms.of(word) for word in ref] if synonyms else []

            def of(word: str) -> list[tuple[int, int]]:
                kinds = dict.fromkeys(
                    (j for j, other in enumerate(senses) if not other.isdisjoint(mine)), SYNONYM
                ) if synonyms and (mine := synonyms.of(word)) else {}  # fmt: skip
                kinds |= dict.fromkeys(stems[stem(word)], STEM) | dict.fromkeys(exact[word], EXACT)
                return sorted(kinds.items())

            return [of(word) for word in hyp]

        rows, items = [], []
        for text, several in zip(preds, refs, strict=True):
            hyp = cut(text)
            found = [statistics(hyp, ref, matches(hyp, ref), function) for ref in map(cut, several)]
            scores = [score(row, parameters) for row in found]
            items.append(max(scores))
            rows.append(found[scores.index(items[-1])])
        stats = np.array(rows)
        alpha, beta, gamma, delta, weights = parameters
        stages = ",".join(
            ["exact", *(["stem"] if stem is not str else []), *(["synonym"] * bool(synonyms))]
        )
        return Measured(
            f"{count_references(refs)}|profile:1.5|lang:{lang if known else 'other'}"
            f"|tok:{'char' if lang in CHARACTERS else '13a'}|case:lc|stages:{stages}"
            f"|stem:{stemmer_name(lang)}|function:{source}"
            f"|alpha:{alpha:g}|beta:{beta:g}|gamma:{gamma:g}|delta:{delta:g}"
            f"|weights:{','.join(f'{weight:g}' for weight in weights)}",
            items,
            score(stats.sum(0), parameters),
            stats,
            lambda total: score(total, parameters),
        )


def _tokenizer(lang: str) -> Callable[[str], list[str]]:
    if lang in CHARACTERS:
        return lambda text: words(text, lang)
    tokenize = BLEU(tokenize="13a").tokenizer
    return lambda text: tokenize(text.rstrip()).lower().split()
