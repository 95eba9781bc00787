"""Reports: significance for every metric, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from written import LATIN, corpus, noisy, patient, report, scores, texts

from aigc_cli import registry
from aigc_cli.errors import DataError, InputError
from aigc_cli.metrics._significance import bootstrap, interval, paired_p
from aigc_cli.metrics.find import find_metric, open_metrics
from aigc_cli.metrics.report import verdict
from aigc_cli.metrics.text._language import CHARACTERS, LANGUAGES, words

ALL = [
    name
    for name, file in registry.metrics().items()
    if file.modality == "text" and not file.group and not name.startswith(("bertscore", "sentence"))
]


def test_every_metric_of_a_corpus_has_its_facts() -> None:
    refs = corpus(30, 1, LATIN)
    found = report(ALL, noisy(refs, 2, 0.2), [[ref] for ref in refs])
    assert list(found["metrics"]) == ALL
    for name, row in found["metrics"].items():
        assert row["n"] == 30
        assert row["protocol"]
        assert row["unit"] in ("0-100", "0-1", "%")
        low, high = row.get("ci95", (row["value"], row["value"]))
        assert low <= row["value"] <= high
        assert ("ci95" in row) == (not name.startswith("distinct"))
    assert [item["line"] for item in found["items"]] == list(range(1, 31))
    assert all(set(item) == {"line", *ALL} for item in found["items"])


def test_a_clear_difference_is_significant_in_every_metric_with_references() -> None:
    names = [name for name in ALL if find_metric(name).reference]
    refs = corpus(60, 1, LATIN)
    good, bad = noisy(refs, 2, 0.05), noisy(refs, 3, 0.6)
    pairs = [[ref] for ref in refs]
    better = report(names, good, pairs, baseline=bad)["metrics"]
    worse = report(names, bad, pairs, baseline=good)["metrics"]
    for name in names:
        assert better[name]["verdict"] == "better", name
        assert worse[name]["verdict"] == "worse", name
        assert better[name]["p"] == worse[name]["p"] < 0.01
        assert better[name]["difference"] == pytest.approx(-worse[name]["difference"])


def test_a_system_against_itself_is_a_tie() -> None:
    hyps = corpus(20, 1, LATIN)
    row = report(["rouge_l"], hyps, [["the cat sat"]] * 20, baseline=hyps)["metrics"]["rouge_l"]
    assert (row["difference"], row["p"]) == (0, 1)
    assert row["verdict"] == "tie"
    assert verdict(1.0, 0.05, higher_is_better=True) == "tie"


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says() -> None:
    from aigc_cli.metrics._corpus import mean_of

    random = np.random.default_rng(0)
    hits = 0
    for _ in range(30):
        low, high = interval(bootstrap(mean_of(random.uniform(size=50).tolist(), "")))
        hits += low <= 0.5 <= high
    assert hits >= 25  # 28.5 expected; fewer than 25 have probability 0.003


def test_p_is_the_share_of_centered_differences_that_are_as_large() -> None:
    system, baseline = np.array([3.0, 1.0, 2.0, 5.0]), np.array([1.0, 2.0, 2.0, 1.0])
    # |differences| 2 1 0 4, centered by 1.75: 0.25 -0.75 -1.75 2.25
    assert paired_p(system, baseline, 0.2) == (2 + 1) / 5
    assert paired_p(system, baseline, -2.5) == (0 + 1) / 5
    assert paired_p(system, system, 0.0) == 1
    assert paired_p(system, baseline, 0.0) == 1


def test_counts_that_differ_are_both_named() -> None:
    with pytest.raises(DataError, match="3 generated things and 2 references do not pair"):
        report(["bleu"], ["a"] * 3, [["a"]] * 2)
    with pytest.raises(DataError, match="3 baseline things and 2 references do not pair"):
        report(["bleu"], ["a"] * 2, [["a"]] * 2, baseline=["a"] * 3)
    with pytest.raises(DataError, match="there is nothing to score"):
        scores("chrf", [], [])


@pytest.mark.parametrize("name", ["bleu", "ter", "rouge_1", "meteor", "token_f1", "distinct_1"])
def test_chinese_is_not_cut_at_blanks(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} of language 'en'.*100% of the characters"):
        scores(name, ["我去北京"], [["我去 北京"]])
    assert len(scores(name, ["我去北京"], [["我去 北京"]], lang="zh")) == 1


def test_chinese_in_the_references_alone_is_seen() -> None:
    with pytest.raises(InputError, match="are Chinese or Japanese"):
        scores("rouge_1", ["hello"], [["你好世界"]])


def test_some_chinese_in_english_and_forcing_are_allowed() -> None:
    scores("bleu", ["the word 你好 means hello"], [["the word 你好 is hello"]])
    assert scores("bleu", ["我去"], [["我去"]], tokenize="13a") == [pytest.approx(100)]
    scores("chrf", ["我去"], [["我去"]])


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (["lang=english"], "bleu.lang: unknown language 'english'"),
        (["bleu.tokenize=13b"], "bleu.tokenize: unknown tokenizer '13b', did you mean '13a'"),
        (["rouge.split=lines"], "rouge_lsum.split: expected 'newline' or 'sentence', got"),
        (["rouge.splt=lines"], "rouge.splt: no metric of bleu, rouge_lsum has such an option"),
        (["chrf.lowercase=true"], "chrf.lowercase: no metric of bleu, rouge_lsum has such"),
    ],
)
def test_unknown_options_are_named(wrong: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_metrics(["bleu", "rouge_lsum"], wrong)


def test_an_unknown_metric_has_a_neighbor() -> None:
    with pytest.raises(InputError, match="unknown metric 'blue'") as caught:
        scores("blue", ["a"], [["a"]])
    assert caught.value.hint == "did you mean 'bleu'?"


def test_groups_name_metrics() -> None:
    known = registry.metrics()
    groups = [file.group for file in known.values() if file.group]
    assert ("rouge_1", "rouge_2", "rouge_l", "rouge_lsum") in groups
    assert all(not known[name].group for group in groups for name in group)


def test_every_language_can_be_scored() -> None:
    for lang in LANGUAGES:
        text = "東京 へ行く" if lang in CHARACTERS else "Été 12 мир नमस्ते"
        for name in ("bleu", "ter", "rouge_lsum", "token_f1", "meteor", "meteor_15"):
            best = {"bleu": 100, "ter": 0, "meteor": 1 - 0.5 / len(words(text, lang)) ** 3}
            found = scores(name, [text], [[text]], lang=lang)
            assert found == [pytest.approx(best.get(name, 1))], (lang, name)


@patient
@given(texts)
def test_words_lose_no_letter_and_no_digit(text: str) -> None:
    for lang in ("fr", "zh"):
        kept = "".join(words(text, lang))
        assert [c for c in text.lower() if c.isalnum()] == [c for c in kept if c.isalnum()]
