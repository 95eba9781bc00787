"""distinct-n over all texts, and self-BLEU against its definition."""

from __future__ import annotations

import pytest
from sacrebleu.metrics import BLEU
from written import corpus, measure

from aigc_cli.errors import DataError
from aigc_cli.metrics.find import find_metric


def test_distinct_counts_the_ngrams_of_all_texts_together() -> None:
    hyps = ["a b a", "b a"]
    assert measure("distinct_1", hyps, []).value == 2 / 5
    assert measure("distinct_2", hyps, []).value == 2 / 3  # a b, b a; no pair over the border
    assert measure("distinct_2", hyps, []).items == [1, 1]
    assert measure("distinct_1", [""], []).value == 0


def test_distinct_of_chinese_counts_characters() -> None:
    found = measure("distinct_1", ["好好学习"], [], lang="zh")
    assert found.value == 3 / 4
    assert found.signature == "n:1|tok:char|case:lc|of:4"


def test_self_bleu_is_sacrebleu_against_all_others() -> None:
    hyps = corpus(40, seed=1)
    metric = BLEU(effective_order=True)
    expected = [
        metric.sentence_score(hyp, hyps[:i] + hyps[i + 1 :]).score for i, hyp in enumerate(hyps)
    ]
    found = measure("self_bleu", hyps, [], tokenize="13a")
    assert found.items == pytest.approx(expected, abs=1e-12)
    assert found.value == pytest.approx(sum(expected) / 40)


def test_texts_that_are_all_the_same_are_not_varied() -> None:
    assert measure("self_bleu", ["one and the same text"] * 3, []).value == pytest.approx(100)
    assert not find_metric("self_bleu").higher_is_better


def test_one_text_has_no_other() -> None:
    with pytest.raises(DataError, match="got 1"):
        measure("self_bleu", ["alone"], [])
