"""BLEU, chrF, chrF++ and TER as sacreBLEU computes them, with its signature.

Papineni et al., 2002, https://aclanthology.org/P02-1040; Popovic, 2015,
https://aclanthology.org/W15-3049; Snover et al., 2006, https://aclanthology.org/2006.amta-papers.25;
Post, 2018, https://aclanthology.org/W18-6319.

The statistics of each text and the score of their sum are taken from the methods that sacreBLEU's
own significance tests use; its public ones give no statistics of chrF.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from aigc_cli.errors import MissingError
from aigc_cli.metrics.text._measure import Measured, References, TextOptions, Texts
from aigc_cli.metrics.text.language import CHARACTERS
from aigc_cli.metrics.text.significance import RESAMPLES, SEED

_MECAB = {"ja": "ipadic", "ko": "mecab_ko"}  # what sacrebleu[ja] and sacrebleu[ko] install


def bleu(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    """Corpus BLEU, 0 to 100; items are sentence BLEU with effective order."""
    metric = open_bleu(options)

    def of_sentence(row: Any) -> float:
        length, closest, *counts = row
        found = BLEU.compute_bleu(
            counts[:4], counts[4:], length, closest, smooth_method="exp", effective_order=True
        )
        return float(found.score)

    return _measure(metric, hyps, refs, of_sentence)


def chrf(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    """Corpus chrF2, 0 to 100: n-grams of up to 6 characters, recall counting twice."""
    return _measure(CHRF(lowercase=options.lowercase), hyps, refs)


def chrfpp(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    """Corpus chrF2++, 0 to 100: chrF2 and n-grams of up to 2 words."""
    return _measure(CHRF(word_order=2, lowercase=options.lowercase), hyps, refs)


def ter(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    """Edits and shifts for 100 words of the references; 0 is best. Chinese and Japanese are cut
    into characters.
    """
    asian = options.lang in CHARACTERS
    return _measure(TER(normalized=asian, asian_support=asian), hyps, refs)


def open_bleu(options: TextOptions) -> BLEU:
    """With the tokenizer that is asked for, or the language's.

    Raises:
        MissingError: it needs a package that is not installed.
    """
    return BLEU(lowercase=options.lowercase, tokenize=tokenizer(options))


def tokenizer(options: TextOptions) -> str:
    """zh for Chinese; MeCab's for Japanese and Korean where it is installed, else char and 13a.

    Raises:
        MissingError: MeCab was asked for and is not installed.
    """
    lang = (options.tokenize or options.lang).removesuffix("-mecab")
    if lang not in _MECAB:
        return options.tokenize or ("zh" if options.lang == "zh" else "13a")
    if importlib.util.find_spec(_MECAB[lang]):
        return f"{lang}-mecab"
    if options.tokenize:
        raise MissingError(
            f"--tokenize {options.tokenize} needs MeCab and its dictionary",
            hint=f"install them with pip install 'sacrebleu[{lang}]'",
        )
    return "char" if lang == "ja" else "13a"


def _measure(
    metric: Any, hyps: Texts, refs: References, of_sentence: Callable[[Any], float] | None = None
) -> Measured:
    def compute(total: Any) -> float:
        return float(metric._compute_score_from_stats(list(total)).score)

    streams = list(zip_longest(*refs))  # sacreBLEU wants the first references, the second ones ...
    rows = metric._extract_corpus_statistics(hyps, streams)
    metric.n_bootstrap, metric.seed = RESAMPLES, str(SEED)
    items = [(of_sentence or compute)(row) for row in rows]
    total = [sum(column) for column in zip(*rows, strict=True)]
    signature = str(metric.get_signature())
    return Measured(signature, items, compute(total), np.array(rows, dtype=np.float64), compute)
