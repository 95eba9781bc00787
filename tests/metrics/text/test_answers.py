"""Token F1 and exact match by SQuAD's definition, written out."""

from __future__ import annotations

import collections
import re
import string

import pytest
from hypothesis import given
from written import measure, patient, scores, texts


def f1_of_squad(pred: str, target: str) -> float:
    """As the evaluation of SQuAD 2.0 describes it."""

    def normalize(text: str) -> list[str]:
        text = "".join(c for c in text.lower() if c not in set(string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    a, b = normalize(pred), normalize(target)
    if not a or not b:
        return float(a == b)
    same = sum((collections.Counter(a) & collections.Counter(b)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(a), same / len(b)
    return 2 * precision * recall / (precision + recall)


@patient
@given(texts, texts)
def test_f1_is_that_of_squad(hyp: str, ref: str) -> None:
    assert measure("token_f1", [hyp], [[ref]]).value == pytest.approx(f1_of_squad(hyp, ref))


def test_case_articles_and_punctuation_do_not_count() -> None:
    assert measure("exact_match", ["The  Eiffel tower!"], [["eiffel tower"]]).value == 1
    assert measure("exact_match", ["Eiffel"], [["eiffel tower"]]).value == 0


def test_the_best_of_several_references_counts() -> None:
    assert scores("token_f1", ["b c"], [["a", "b"]]) == [pytest.approx(2 / 3)]


def test_chinese_is_compared_by_characters() -> None:
    found = measure("token_f1", ["北京大学。"], [["北京"]], lang="zh")
    assert found.value == pytest.approx(2 * 2 / (4 + 2))
    assert "tok:char" in found.signature
    assert measure("exact_match", ["北京。"], [["北 京"]], lang="zh").value == 1
