"""Reports: significance for every metric, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from written import LATIN, corpus, noisy, patient, texts

from aigc_cli.errors import DataError, InputError
from aigc_cli.metrics.text import (
    TEXT_GROUPS,
    TEXT_METRICS,
    TextOptions,
    corpus_report,
    sentence_scores,
)
from aigc_cli.metrics.text.language import CHARACTERS, LANGUAGES, words
from aigc_cli.metrics.text.report import verdict
from aigc_cli.metrics.text.significance import bootstrap, interval, paired_p

ALL = [name for name in TEXT_METRICS if name != "bertscore"]


def test_every_metric_of_a_corpus_has_its_facts() -> None:
    refs = corpus(30, 1, LATIN)
    report = corpus_report(ALL, noisy(refs, 2, 0.2), [[ref] for ref in refs])
    assert list(report["metrics"]) == ALL
    for name, row in report["metrics"].items():
        assert row["n"] == 30
        assert row["protocol"]
        assert row["unit"] in ("0-100", "0-1", "%")
        low, high = row.get("ci95", (row["value"], row["value"]))
        assert low <= row["value"] <= high
        assert ("ci95" in row) == (not name.startswith("distinct"))
    assert [item["line"] for item in report["items"]] == list(range(1, 31))
    assert all(set(item) == {"line", *ALL} for item in report["items"])


def test_a_clear_difference_is_significant_in_every_metric_with_references() -> None:
    names = [name for name in ALL if TEXT_METRICS[name].reference]
    refs = corpus(60, 1, LATIN)
    good, bad = noisy(refs, 2, 0.05), noisy(refs, 3, 0.6)
    pairs = [[ref] for ref in refs]
    better = corpus_report(names, good, pairs, baseline=bad)["metrics"]
    worse = corpus_report(names, bad, pairs, baseline=good)["metrics"]
    for name in names:
        assert better[name]["verdict"] == "better", name
        assert worse[name]["verdict"] == "worse", name
        assert better[name]["p"] == worse[name]["p"] < 0.01
        assert better[name]["difference"] == pytest.approx(-worse[name]["difference"])


def test_a_system_against_itself_is_a_tie() -> None:
    hyps = corpus(20, 1, LATIN)
    row = corpus_report(["rouge_l"], hyps, [["the cat sat"]] * 20, baseline=hyps)["metrics"][
        "rouge_l"
    ]
    assert row["difference"] == 0
    assert row["verdict"] == "tie"
    assert verdict(1.0, 0.05, higher_is_better=True) == "tie"


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    from aigc_cli.metrics.text._measure import mean_of

    random = np.random.default_rng(0)
    hits = 0
    for _ in range(30):
        low, high = interval(bootstrap(mean_of(random.uniform(size=50).tolist(), "")))
        hits += low <= 0.5 <= high
    assert hits >= 25  # 28.5 expected; fewer than 25 have probability 0.003


def test_p_is_the_share_of_centred_differences_that_are_as_large() -> None:
    system, baseline = np.array([3.0, 1.0, 2.0, 5.0]), np.array([1.0, 2.0, 2.0, 1.0])
    # |differences| 2 1 0 4, centred by 1.75: 0.25 -0.75 -1.75 2.25
    assert paired_p(system, baseline, 0.2) == (2 + 1) / 5
    assert paired_p(system, baseline, -2.5) == (0 + 1) / 5


def test_counts_that_differ_are_both_named() -> None:
    with pytest.raises(DataError, match="3 generated texts and 2 references do not pair"):
        corpus_report(["bleu"], ["a"] * 3, [["a"]] * 2)
    with pytest.raises(DataError, match="3 baseline texts and 2 references do not pair"):
        corpus_report(["bleu"], ["a"] * 2, [["a"]] * 2, baseline=["a"] * 3)
    with pytest.raises(DataError, match="there is no text to score"):
        sentence_scores("chrf", [], [])


@pytest.mark.parametrize("name", ["bleu", "ter", "rouge_1", "meteor", "token_f1", "distinct_1"])
def test_chinese_is_not_cut_at_blanks(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} of language 'en'.*100% of the characters"):
        sentence_scores(name, ["我去北京"], [["我去 北京"]])
    assert len(sentence_scores(name, ["我去北京"], [["我去 北京"]], TextOptions("zh"))) == 1


def test_chinese_in_the_references_alone_is_seen() -> None:
    with pytest.raises(InputError, match="are Chinese or Japanese"):
        sentence_scores("rouge_1", ["hello"], [["你好世界"]])


def test_some_chinese_in_english_and_forcing_are_allowed() -> None:
    sentence_scores("bleu", ["the word 你好 means hello"], [["the word 你好 is hello"]])
    assert sentence_scores("bleu", ["我去"], [["我去"]], TextOptions(tokenize="13a")) == [
        pytest.approx(100)
    ]
    sentence_scores("chrf", ["我去"], [["我去"]])


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"lang": "english"}, "unknown language 'english'"),
        ({"tokenize": "13b"}, "unknown tokenizer '13b'"),
        ({"split": "lines"}, "unknown way to split 'lines'"),
    ],
)
def test_unknown_options_are_named(wrong: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        TextOptions(**wrong)


def test_an_unknown_metric_has_a_neighbour() -> None:
    with pytest.raises(InputError, match="unknown metric 'blue'") as caught:
        sentence_scores("blue", ["a"], [["a"]])
    assert caught.value.hint == "did you mean 'bleu'?"


def test_groups_name_metrics() -> None:
    assert {name for group in TEXT_GROUPS.values() for name in group} <= set(TEXT_METRICS)


def test_every_language_can_be_scored() -> None:
    for lang in LANGUAGES:
        text = "東京 へ行く" if lang in CHARACTERS else "Été 12 мир नमस्ते"
        for name in ("bleu", "ter", "rouge_lsum", "token_f1", "meteor", "meteor_15"):
            best = {"bleu": 100, "ter": 0, "meteor": 1 - 0.5 / len(words(text, lang)) ** 3}
            found = sentence_scores(name, [text], [[text]], TextOptions(lang))
            assert found == [pytest.approx(best.get(name, 1))], (lang, name)


@patient
@given(texts)
def test_words_lose_no_letter_and_no_digit(text: str) -> None:
    for lang in ("fr", "zh"):
        kept = "".join(words(text, lang))
        assert [c for c in text.lower() if c.isalnum()] == [c for c in kept if c.isalnum()]
