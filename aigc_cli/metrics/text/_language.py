"""Languages: which are known, how their texts are cut into words, and their stemmers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import regex

from aigc_cli.errors import InputError
from aigc_cli.metrics.text._nltk import nltk

SNOWBALL = {
    "ar": "arabic", "da": "danish", "de": "german", "en": "english", "es": "spanish",
    "fi": "finnish", "fr": "french", "hu": "hungarian", "it": "italian", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sv": "swedish",
}  # fmt: skip
"""Languages with a Snowball stemmer."""
CHARACTERS = ("zh", "ja")
"""Languages without blanks between words: every character counts as one."""
LANGUAGES = (
    *SNOWBALL, *CHARACTERS,
    "bg", "ca", "cs", "el", "et", "fa", "he", "hi", "hr", "id", "ko", "lt", "lv", "ms", "pl", "sk",
    "sl", "sr", "tr", "uk", "ur", "vi",
)  # fmt: skip
MOST_CJK = 0.3  # of the characters, in a text that is cut at blanks

_CJK = r"\p{Han}\p{Hiragana}\p{Katakana}ー々〆"
_CHARACTERS = regex.compile(rf"[{_CJK}]|[[\p{{L}}\p{{M}}\p{{N}}]--[{_CJK}]]+", regex.V1)
_WORDS = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_VISIBLE = regex.compile(r"\S")
_IDEOGRAPHS = regex.compile(rf"[{_CJK}]")


def words(text: str, lang: str) -> list[str]:
    """Lower-cased runs of letters and digits; in Chinese and Japanese each character by itself,
    words and numbers of other scripts whole.
    """
    return (_CHARACTERS if lang in CHARACTERS else _WORDS).findall(text.lower())


def words_name(lang: str) -> str:
    """How `words` cuts, for a signature."""
    return "char" if lang in CHARACTERS else "word"


@lru_cache(maxsize=4)
def stemmer(lang: str) -> Callable[[str], str]:
    """The Snowball stemmer of a language; words of others stay as they are."""
    if lang not in SNOWBALL:
        return str
    made = nltk("stem.snowball").SnowballStemmer(SNOWBALL[lang])
    return lru_cache(maxsize=100_000)(made.stem)


def stemmer_name(lang: str) -> str:
    return f"snowball-{SNOWBALL[lang]}" if lang in SNOWBALL else "no"


@lru_cache(maxsize=1)
def porter() -> Callable[[str], str]:
    """NLTK's extended Porter stemmer, the one of rouge-score and of NLTK's METEOR."""
    return lru_cache(maxsize=100_000)(nltk("stem.porter").PorterStemmer().stem)


def check_script(texts: Iterable[str], lang: str, metric: str) -> None:
    """Refuse to look for blanks between words where there are none.

    Raises:
        InputError: more than 30 % of what is to be cut at blanks is Chinese or Japanese.
    """
    if lang in CHARACTERS:
        return
    joined = "".join(texts)
    visible = len(_VISIBLE.findall(joined))
    found = len(_IDEOGRAPHS.findall(joined))
    if found > MOST_CJK * visible:
        raise InputError(
            f"{metric} of language '{lang}' looks for blanks between words, but "
            f"{found / visible:.0%} of the characters are Chinese or Japanese",
            hint="give lang=zh or lang=ja; bleu.tokenize=13a forces BLEU",
        )
