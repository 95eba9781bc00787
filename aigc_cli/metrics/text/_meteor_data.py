"""Function words and synonyms for METEOR, from the folder `meteor` in that of AIGC_WEIGHTS when it
is there. Its layout is that of the 1.5 release: function/english.words, synonym/english.synsets.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from aigc_cli.errors import DataError
from aigc_cli.metrics.text._language import SNOWBALL

# English words and marks of grammar that make up more than a thousandth of running text each, the
# definition of Denkowski and Lavie, 2011, https://aclanthology.org/W11-2107.
_ENGLISH = (
    "the a an this that these those all some any no not one two other more most such "
    "of to in for on with at by from as into over after about against before between through "
    "during under up out off than "
    "and or but if because while when where which who what how so then there also only "
    "i you he she it we they me him her us them my your his its our their "
    "is are was were be been being am do does did have has had will would can could may should "
    "'s n't 't . , ; : ? ! ' \" ( ) - & $ %"
)
FUNCTION_WORDS = frozenset(_ENGLISH.split())

# Endings of WordNet's morphology: what an inflected form ends with, and its base.
_ENDINGS = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
    ("men", "man"), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
    ("ing", ""), ("er", ""), ("est", ""), ("er", "e"), ("est", "e"),
)  # fmt: skip


@dataclass(frozen=True)
class Synonyms:
    """Which words share a meaning: two do when their sets of meanings meet."""

    meanings: dict[str, frozenset[str]]
    members: dict[str, tuple[str, ...]]
    bases: dict[str, tuple[str, ...]]
    """Irregular forms."""

    def of(self, word: str) -> frozenset[str]:
        """Meanings of the word and of the words it may be a form of."""
        return self.meanings.get(word, frozenset()).union(
            *(self.meanings.get(base, frozenset()) for base in self._bases(word))
        )

    def _bases(self, word: str) -> Iterator[str]:
        yield from self.bases.get(word, ())
        for ending, base in _ENDINGS:
            if word.endswith(ending):
                yield word.removesuffix(ending) + base


def load_synonyms(lang: str) -> Synonyms | None:
    """None where there is no folder, or nothing in it for the language.

    Raises:
        DataError: the file is not what METEOR's is: a word, then a line with its meanings.
    """
    path = _folder() / "synonym" / f"{SNOWBALL.get(lang, lang)}.synsets"
    return _synonyms(path) if path.is_file() else None


def load_function_words(lang: str) -> tuple[frozenset[str], str]:
    """The words and where they are from: METEOR's list, our English one, or none."""
    path = _folder() / "function" / f"{SNOWBALL.get(lang, lang)}.words"
    if path.is_file():
        return frozenset(_lines(path)), "meteor"
    return (FUNCTION_WORDS, f"own-{len(FUNCTION_WORDS)}") if lang == "en" else (frozenset(), "no")


def _folder() -> Path:
    return Path(os.environ.get("AIGC_WEIGHTS") or "weights") / "meteor"


@lru_cache(maxsize=1)
def _synonyms(path: Path) -> Synonyms:
    meanings = {word: frozenset(keys) for word, keys in _pairs(path).items()}
    members = defaultdict(list)
    for word, keys in meanings.items():
        for key in keys:
            members[key].append(word)
    exceptions = path.with_suffix(".exceptions")
    bases = _pairs(exceptions) if exceptions.is_file() else {}
    return Synonyms(meanings, {key: tuple(sorted(w)) for key, w in members.items()}, bases)


def _pairs(path: Path) -> dict[str, tuple[str, ...]]:
    lines = _lines(path)
    if len(lines) % 2:
        raise DataError(f"{path} has {len(lines)} lines, but a word and its line make pairs")
    return {word: tuple(line.split()) for word, line in zip(lines[::2], lines[1::2], strict=True)}


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8") from error
