"""ROUGE is rouge-score's in English, and counts what other scripts have."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from written import corpus, measure, noisy, patient, texts

from aigc_cli.metrics.text.rouge import Overlap, rouge_l, rouge_lsum, rouge_n, sentences

KINDS = {"1": "rouge1", "2": "rouge2", "l": "rougeL", "lsum": "rougeLsum"}


@pytest.mark.parametrize("stem", [True, False])
def test_a_thousand_random_pairs_score_as_in_rouge_score(stem: bool) -> None:
    hyps = [text.replace(".", "\n") for text in corpus(1000, seed=1)]
    refs = [[a, b] for a, b in zip(noisy(hyps, 2, 0.3), corpus(1000, seed=3), strict=True)]
    peer = RougeScorer(list(KINDS.values()), use_stemmer=stem)
    expected = [peer.score_multi(several, hyp) for hyp, several in zip(hyps, refs, strict=True)]
    for kind, name in KINDS.items():
        found = measure(f"rouge_{kind}", hyps, refs, stem=stem)
        assert found.items == [float(scores[name].fmeasure) for scores in expected]
        assert found.value == pytest.approx(sum(found.items) / 1000)


@patient
@given(hyp=texts, ref=texts)
def test_precision_and_recall_are_those_of_rouge_score(hyp: str, ref: str) -> None:
    a, b = ref.split(), hyp.split()
    peer = RougeScorer(list(KINDS.values()), tokenizer=Blanks()).score(ref, hyp)
    found = {
        "rouge1": rouge_n(a, b, 1),
        "rouge2": rouge_n(a, b, 2),
        "rougeL": rouge_l(a, b),
        "rougeLsum": rouge_lsum(*([s.split() for s in t.split("\n") if s] for t in (ref, hyp))),
    }
    for name, score in found.items():
        assert score == Overlap(*peer[name]), name


class Blanks:
    def tokenize(self, text: str) -> list[str]:
        return text.split()


def brute_lcs(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return 1 + brute_lcs(a[:-1], b[:-1])
    return max(brute_lcs(a[:-1], b), brute_lcs(a, b[:-1]))


@patient
@given(st.lists(st.sampled_from("abc"), max_size=7), st.lists(st.sampled_from("abc"), max_size=7))
def test_the_longest_common_subsequence_is_as_defined(a: list[str], b: list[str]) -> None:
    assert rouge_l(a, b).recall == brute_lcs(a, b) / max(len(a), 1)


def test_repeated_words_count_as_often_as_both_have_them() -> None:
    assert rouge_n("ab", "aaab", 1) == Overlap(0.5, 1.0, pytest.approx(2 / 3))


def test_chinese_is_compared_by_characters() -> None:
    same = measure("rouge_l", ["深度学习 GPT4 模型"], [["深度学习 GPT4 模型"]], lang="zh")
    assert same.value == 1
    assert "tok:char" in same.signature
    # 深 度 学 习 gpt4 of 深 度 学 习 gpt4 模 型
    found = measure("rouge_1", ["深度学习GPT4"], [["深度学习GPT4模型"]], lang="zh")
    assert found.value == pytest.approx(2 * 5 / (5 + 7))
    assert RougeScorer(["rouge1"]).score("深度学习", "深度学习")["rouge1"].fmeasure == 0


def test_letters_with_accents_are_kept_in_languages_other_than_english() -> None:
    assert measure("rouge_1", ["café noir"], [["caf noir"]], lang="fr").value == 0.5
    assert measure("rouge_1", ["café noir"], [["caf noir"]], lang="en").value == 1


def test_a_summary_on_one_line_may_be_cut_into_sentences() -> None:
    hyp, ref = "A cat sat. Dogs ran home.", "Dogs ran home. A cat sat."
    assert measure("rouge_lsum", [hyp], [[ref]]).value == pytest.approx(0.5)
    cut = measure("rouge_lsum", [hyp], [[ref]], split="sentence")
    assert cut.value == 1
    assert "split:sentence" in cut.signature


@pytest.mark.parametrize(
    "text, parts",
    [
        ("One. Two! Three? 4 is last.", ["One.", "Two!", "Three?", "4 is last."]),
        (
            "Dr. Lee met J. Smith, e.g. Yesterday. Then",
            ["Dr. Lee met J. Smith, e.g. Yesterday.", "Then"],
        ),
        ("It costs 3.5 dollars. now it does not", ["It costs 3.5 dollars. now it does not"]),
        ("他说：“好！”然后走了。再见？！", ["他说：“好！”", "然后走了。", "再见？！"]),  # noqa: RUF001
        ("a\n\nb", ["a", "b"]),
        ("", []),
    ],
)
def test_sentences(text: str, parts: list[str]) -> None:
    assert sentences(text, "sentence") == parts


def test_words_are_stemmed_without_scipys_statistics() -> None:
    code = (
        "import sys; from aigc_cli.metrics.text._language import porter\n"
        "assert porter()('running') == 'run' and 'scipy.stats' not in sys.modules\n"
        "import scipy.stats"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
