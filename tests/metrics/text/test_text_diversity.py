"""distinct-n over all texts, and self-BLEU against its definition."""

from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU
from written import corpus

from aigc_cli.errors import DataError
from aigc_cli.metrics.text import TEXT_METRICS, TextOptions
from aigc_cli.metrics.text.diversity import distinct, self_bleu


def test_distinct_counts_the_ngrams_of_all_texts_together() -> None:
    hyps = ["a b a", "b a"]
    assert distinct(1)(hyps, [], TextOptions()).value == 2 / 5
    assert distinct(2)(hyps, [], TextOptions()).value == 2 / 3  # a b, b a; no pair over the border
    assert distinct(2)(hyps, [], TextOptions()).items == [1, 1]
    assert distinct(1)([""], [], TextOptions()).value == 0


def test_distinct_of_chinese_counts_characters() -> None:
    found = distinct(1)(["好好学习"], [], TextOptions("zh"))
    assert found.value == 3 / 4
    assert found.signature == "n:1|tok:char|case:lc|of:4"


def test_self_bleu_is_sacrebleu_against_all_others() -> None:
    hyps = corpus(40, seed=1)
    metric = BLEU(effective_order=True)
    expected = [
        metric.sentence_score(hyp, hyps[:i] + hyps[i + 1 :]).score for i, hyp in enumerate(hyps)
    ]
    found = self_bleu(hyps, [], TextOptions(tokenize="13a"))
    assert found.items == pytest.approx(expected, abs=1e-12)
    assert found.value == pytest.approx(sum(expected) / 40)


def test_texts_that_are_all_the_same_are_not_varied() -> None:
    assert self_bleu(["one and the same text"] * 3, [], TextOptions()).value == pytest.approx(100)
    assert not TEXT_METRICS["self_bleu"].higher_is_better


def test_one_text_has_no_other() -> None:
    with pytest.raises(DataError, match="got 1"):
        self_bleu(["alone"], [], TextOptions())
