"""METEOR in both profiles: NLTK's number for number, and the published ones of 1.5."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from nltk.tokenize import NLTKWordTokenizer
from nltk.translate.meteor_score import meteor_score
from written import corpus, latin_texts, measure, noisy, patient

from aigc_cli.errors import DataError
from aigc_cli.metrics.text.meteor_15 import COVERS, OTHER, PARAMETERS, align, count_chunks, score

GUIDE = (
    "It is a guide to action which ensures that the military always obeys the commands of the party"
)
MILITARY = "It is a guide to action that ensures that the military will forever heed Party commands"


class NoWordNet:
    def synsets(self, word: str) -> list[object]:
        return []


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIGC_WEIGHTS", str(tmp_path))
    return tmp_path / "meteor"


def add_synonyms(folder: Path, synsets: str, exceptions: str = "") -> None:
    (folder / "synonym").mkdir(parents=True)
    (folder / "synonym/english.synsets").write_text(synsets)
    (folder / "synonym/english.exceptions").write_text(exceptions)


def test_random_texts_score_as_in_nltk() -> None:
    hyps = corpus(300, seed=1)
    refs = [[a, b] for a, b in zip(noisy(hyps, 2, 0.3), corpus(300, seed=3), strict=True)]
    cut, more = NLTKWordTokenizer().tokenize, {"stemmer": PorterStemmer(), "wordnet": NoWordNet()}
    found = measure("meteor", hyps, refs)
    for item, hyp, several in zip(found.items, hyps, refs, strict=True):
        assert item == meteor_score([cut(ref) for ref in several], cut(hyp), **more)
    assert found.value == pytest.approx(sum(found.items) / 300)


def test_the_quirks_of_nltk() -> None:
    assert measure("meteor", ["cat"], [["cat"]]).value == 0.5
    ten = "a b c d e f g h i j"
    assert measure("meteor", [ten], [[ten]]).value == pytest.approx(0.9995)
    found = measure("meteor", [GUIDE], [[MILITARY]])
    assert found.value == pytest.approx(0.69444, abs=1e-5)
    assert "profile:nltk" in found.signature
    assert "synonyms:no" in found.signature


def test_published_scores_of_meteor_15(weights: Path) -> None:
    found = measure("meteor_15", ["the cat was sat on the mat"], [["the cat sat on the mat"]])
    assert found.value == pytest.approx(0.5119556177223324, abs=1e-15)
    found = measure("meteor_15", [GUIDE], [[MILITARY]])
    assert found.value == pytest.approx(0.3852, abs=5e-5)
    assert "stages:exact,stem|" in found.signature
    add_synonyms(weights, "always\n1 2\nforever\n2 3\n")
    found = measure("meteor_15", [GUIDE], [[MILITARY]])
    assert found.value == pytest.approx(0.4122, abs=5e-5)
    assert "stages:exact,stem,synonym|" in found.signature


def test_synonyms_of_a_folder_raise_both_profiles(weights: Path) -> None:
    pair = ["big car stopped"], [["large automobile halted"]]
    before = [measure(name, *pair).value for name in ("meteor", "meteor_15")]
    add_synonyms(
        weights, "big\n1\nlarge\n1 4\ncar\n2\nautomobile\n2\nstop\n3\nhalt\n3\n", "stopped\nstop\n"
    )
    after = measure("meteor", *pair)
    assert after.value > before[0]
    assert "synonyms:meteor" in after.signature
    found = measure("meteor_15", *pair)
    assert before[1] == 0
    assert found.items[0] == pytest.approx(0.8)  # all of it in one chunk


def test_irregular_forms_are_looked_up(weights: Path) -> None:
    add_synonyms(weights, "go\n1\ntravel\n1\n", "went\ngo\n")
    assert measure("meteor_15", ["went"], [["travel"]]).value > 0
    assert measure("meteor_15", ["gone"], [["travel"]]).value == 0


def test_a_damaged_synonym_file_is_named(weights: Path) -> None:
    add_synonyms(weights, "big\n1\nlarge\n")
    with pytest.raises(DataError, match=r"english.synsets has 3 lines"):
        measure("meteor_15", ["a"], [["a"]])


def test_function_words_of_a_folder_replace_ours(weights: Path) -> None:
    (weights / "function").mkdir(parents=True)
    (weights / "function/german.words").write_text("der\ndie\ndas\n")
    found = measure("meteor_15", ["das Haus"], [["das Auto"]], lang="de")
    assert "lang:de|" in found.signature
    assert "function:meteor" in found.signature
    weight = 1 - PARAMETERS["de"].delta
    assert found.value == pytest.approx(weight * (1 - 0.55))
    assert "lang:other" in measure("meteor_15", ["el gato"], [["el perro"]], lang="es").signature


def test_equal_texts_have_no_penalty_and_none_at_all_is_zero() -> None:
    assert measure("meteor_15", ["A cat sat."], [["a cat sat."]]).value == 1
    assert measure("meteor_15", ["cat", ""], [["dog"], ["dog"]]).items == [0, 0]
    assert measure("meteor_15", [""], [[""]]).value == 0


def test_chinese_is_compared_by_characters_with_parameters_of_no_language() -> None:
    found = measure("meteor_15", ["我去北京"], [["我去北京"]], lang="zh")
    assert found.value == 1
    assert "lang:other|tok:char" in found.signature
    assert measure("meteor", ["我去北京"], [["我去北京"]], lang="zh").value == 1 - 0.5 / 4**3


def test_the_best_reference_counts() -> None:
    refs = ["a dog ran", "the cat sat"]
    alone = [measure("meteor_15", ["the cat sits"], [[ref]]).value for ref in refs]
    assert measure("meteor_15", ["the cat sits"], [refs]).value == max(alone)


def test_the_corpus_score_is_that_of_the_summed_statistics() -> None:
    hyps, refs = ["the cat sat", "a dog"], [["the cat"], ["a dog barked loudly"]]
    found = measure("meteor_15", hyps, refs)
    assert found.value == pytest.approx(score(found.stats.sum(0), PARAMETERS["en"]))
    assert found.value != pytest.approx(sum(found.items) / 2)
    again = measure("meteor_15", hyps[::-1], refs[::-1])
    assert again.value == pytest.approx(found.value)


words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=5)


@patient
@given(words, words)
def test_no_alignment_is_better_than_the_one_of_the_beam(hyp: list[str], ref: list[str]) -> None:
    matches = [[(j, 0 if w == "a" else 1) for j, o in enumerate(ref) if o == w] for w in hyp]

    def badness(pairs: tuple) -> tuple:
        covered = sum(COVERS[kind] for _, _, kind in pairs)
        return -covered, count_chunks(pairs), sum(abs(i - j) for i, j, _ in pairs)

    every = itertools.product(*([None, *choices] for choices in matches))
    complete = []
    for choice in every:
        pairs = tuple((i, *c) for i, c in enumerate(choice) if c)
        if len({j for _, j, _ in pairs}) == len(pairs):
            complete.append(badness(pairs))
    assert badness(align(matches, beam=10_000)) == min(complete)
    assert badness(align(matches))[0] == min(complete)[0]


@patient
@given(latin_texts, latin_texts)
def test_scores_are_between_0_and_1(hyp: str, ref: str) -> None:
    for name in ("meteor", "meteor_15"):
        assert 0 <= measure(name, [hyp], [[ref]]).value <= 1


def test_parameters_of_no_language_weigh_function_words_like_others() -> None:
    assert OTHER.delta == 0.5
