"""What a metric of texts takes and gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.metrics.text.language import LANGUAGES

Texts = Sequence[str]
References = Sequence[Sequence[str]]
"""For each text the texts it may be like, one or more."""
Stats = NDArray[np.floating[Any]]

TOKENIZERS = ("13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", "none")
"""Those of sacreBLEU that need no download."""


@dataclass(frozen=True)
class TextOptions:
    """What a comparison of texts may choose; whatever matters is in a metric's signature.

    Raises:
        InputError: unknown language, tokenizer or way to split.
    """

    lang: str = "en"
    """ISO 639-1 code of the texts."""
    tokenize: str | None = None
    """sacreBLEU's tokenizer for BLEU; None is the usual one of the language."""
    lowercase: bool = False
    """Whether BLEU and chrF look at lower-case letters only, as TER, ROUGE and METEOR always do."""
    stem: bool = True
    """Whether ROUGE compares English words by their Porter stems."""
    split: Literal["newline", "sentence"] = "newline"
    """Where ROUGE-Lsum cuts a text into sentences."""
    model: str | None = None
    """Folder of the transformer that BERTScore looks through, FOLDER or FOLDER:LAYER."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        for what, name, known in (
            ("language", self.lang, LANGUAGES),
            ("tokenizer", self.tokenize or TOKENIZERS[0], TOKENIZERS),
            ("way to split", self.split, ("newline", "sentence")),
        ):
            if name not in known:
                raise InputError(f"unknown {what} {name!r}", hint=did_you_mean(name, known))


ENGLISH = TextOptions()


@dataclass(frozen=True)
class Measured:
    """A metric of N texts. The rows of `stats` (N, K) belong to one text each; `compute` turns the
    sum of any of them into the score. A metric of all texts together has no stats.
    """

    signature: str
    items: list[float]
    value: float
    stats: Stats | None = None
    compute: Callable[[Any], float] = lambda total: float(total[0] / total[1])


Measure = Callable[[Texts, References, TextOptions], Measured]


def mean_of(items: Sequence[float], signature: str) -> Measured:
    """A metric that is the plain mean of the texts' scores."""
    values = np.asarray(items, dtype=np.float64)
    stats = np.stack([values, np.ones_like(values)], axis=1)
    return Measured(signature, values.tolist(), float(values.mean()), stats)


def count_references(refs: References) -> str:
    """nrefs:2, or nrefs:var where texts differ; the beginning of a signature, as in sacreBLEU."""
    counts = {len(several) for several in refs}
    return f"nrefs:{counts.pop() if len(counts) == 1 else 'var'}"
