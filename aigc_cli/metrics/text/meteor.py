"""METEOR as NLTK computes it: Lavie and Agarwal, 2007, https://aclanthology.org/W07-0734.

Greedy alignment by equal words, then stems, then synonyms; alpha 0.9, beta 3, gamma 0.5. NLTK
insists on WordNet; here it gets METEOR's own synonyms where their folder is given, and otherwise a
dictionary without any, so nothing is downloaded. Its numbers are not those of `meteor_15`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aigc_cli.metrics._corpus import Measured, count_references, mean_of
from aigc_cli.metrics.text._language import CHARACTERS, porter, stemmer, stemmer_name, words
from aigc_cli.metrics.text._meteor_data import Synonyms, load_synonyms
from aigc_cli.metrics.text._nltk import nltk
from aigc_cli.metrics.text._text import References, TextMetric, Texts


@dataclass(frozen=True)
class _Lemma:
    text: str

    def name(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Synset:
    words: tuple[str, ...]

    def lemmas(self) -> list[_Lemma]:
        return [_Lemma(word) for word in self.words]


@dataclass(frozen=True)
class _WordNet:
    """What NLTK's METEOR asks of WordNet."""

    synonyms: Synonyms | None

    def synsets(self, word: str) -> list[_Synset]:
        if self.synonyms is None:
            return []
        return [_Synset(self.synonyms.members[key]) for key in sorted(self.synonyms.of(word))]


@dataclass(frozen=True)
class _Stemmer:
    stem: Callable[[str], str]


class Metric(TextMetric):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "mean METEOR of 2007, as NLTK"

    def compute(self, preds: Texts, refs: References) -> Measured:
        """Mean over texts of the best reference's score, 0 to 1; equal texts of n words get
        1 - 0.5 / n^3.
        """
        meteor_score = nltk("translate.meteor_score").meteor_score
        lang = self.options.lang
        tokens: Callable[[str], list[str]] = nltk("tokenize").NLTKWordTokenizer().tokenize
        if lang in CHARACTERS:
            tokens = lambda text: words(text, lang)  # noqa: E731
        stem, name = (porter(), "porter") if lang == "en" else (stemmer(lang), stemmer_name(lang))
        synonyms = load_synonyms(lang)
        more: dict[str, Any] = {"stemmer": _Stemmer(stem), "wordnet": _WordNet(synonyms)}
        items = [
            float(meteor_score([tokens(ref) for ref in several], tokens(hyp), **more))
            for hyp, several in zip(preds, refs, strict=True)
        ]
        cut = "char" if lang in CHARACTERS else "nltk"
        found = "meteor" if synonyms else "no"
        return mean_of(
            items,
            f"{count_references(refs)}|profile:nltk|tok:{cut}|case:lc|stem:{name}|synonyms:{found}"
            "|alpha:0.9|beta:3|gamma:0.5",
        )
