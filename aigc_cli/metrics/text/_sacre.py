"""BLEU, chrF, chrF++ and TER as sacreBLEU computes them, with its signature.

Papineni et al., 2002, https://aclanthology.org/P02-1040; Popovic, 2015,
https://aclanthology.org/W15-3049; Snover et al., 2006, https://aclanthology.org/2006.amta-papers.25;
Post, 2018, https://aclanthology.org/W18-6319.

The statistics of each text and the score of their sum are taken from the methods that sacreBLEU's
own significance tests use; its public ones give no statistics of chrF.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field
from sacrebleu.metrics.bleu import BLEU

from aigc_cli.errors import MissingError, did_you_mean
from aigc_cli.metrics._corpus import Measured
from aigc_cli.metrics._significance import RESAMPLES, SEED
from aigc_cli.metrics.text._text import LanguageOptions, References, Texts

_PIECES = {"flores101": "sacrebleu_tokenizer_spm.model", "flores200": "flores200sacrebleuspm"}
"""Files that sacreBLEU would download for tokenizers of sentence pieces."""
TOKENIZERS = ("13a", "intl", "zh", "char", "ja-mecab", "ko-mecab", *_PIECES, "none")
"""Those of sacreBLEU; nothing is downloaded, so some need a file or a package."""
_MECAB = {"ja": "ipadic", "ko": "mecab_ko"}  # what sacrebleu[ja] and sacrebleu[ko] install


def _known(name: str | None) -> str | None:
    if name is not None and name not in TOKENIZERS:
        raise ValueError(f"unknown tokenizer '{name}', {did_you_mean(name, TOKENIZERS)}")
    return name


class BLEUOptions(LanguageOptions):
    """What `METRIC.KEY=VALUE` may set."""

    tokenize: Annotated[str | None, AfterValidator(_known)] = Field(None)
    """sacreBLEU's tokenizer; null is the usual one of the language."""
    lowercase: bool = False
    """Whether only lower-case letters are looked at, as TER, ROUGE and METEOR always do."""


def open_bleu(options: BLEUOptions) -> BLEU:
    """With the tokenizer that is asked for, or the language's.

    Raises:
        MissingError: it needs a package that is not installed.
    """
    return BLEU(lowercase=options.lowercase, tokenize=tokenizer(options))


def tokenizer(options: BLEUOptions) -> str:
    """zh for Chinese; MeCab's for Japanese and Korean where it is installed, else char and 13a.

    Raises:
        MissingError: MeCab or a file of sentence pieces was asked for and is absent.
    """
    if (file := _PIECES.get(options.tokenize or "")) is not None:
        folder = Path(os.environ.get("SACREBLEU") or Path.home() / ".sacrebleu") / "models"
        if not (folder / file).is_file():
            raise MissingError(
                f"tokenize={options.tokenize} needs its file {folder / file}",
                hint=f"sacrebleu -tok {options.tokenize} fetches it once, where there is a network",
            )
    lang = (options.tokenize or options.lang).removesuffix("-mecab")
    if lang not in _MECAB:
        return options.tokenize or ("zh" if options.lang == "zh" else "13a")
    if importlib.util.find_spec(_MECAB[lang]):
        return f"{lang}-mecab"
    if options.tokenize:
        raise MissingError(
            f"tokenize={options.tokenize} needs MeCab and its dictionary",
            hint=f"install them with pip install 'sacrebleu[{lang}]'",
        )
    return "char" if lang == "ja" else "13a"


def measure(
    metric: Any, preds: Texts, refs: References, of_sentence: Callable[[Any], float] | None = None
) -> Measured:
    def compute(total: Any) -> float:
        return float(metric._compute_score_from_stats(list(total)).score)

    streams = list(zip_longest(*refs))  # sacreBLEU wants the first references, the second ones ...
    rows = metric._extract_corpus_statistics(preds, streams)
    metric.n_bootstrap, metric.seed = RESAMPLES, str(SEED)
    items = [(of_sentence or compute)(row) for row in rows]
    total = [sum(column) for column in zip(*rows, strict=True)]
    signature = str(metric.get_signature())
    return Measured(signature, items, compute(total), np.array(rows, dtype=np.float64), compute)
