"""BLEU, chrF and TER are sacreBLEU's, in value, signature, interval and p."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest
from written import corpus, measure, noisy, opened, patient, report, scores, texts

from aigc_cli.errors import MissingError
from aigc_cli.metrics.report import check_things

PEERS = {
    "bleu": lambda: BLEU(),
    "chrf": lambda: CHRF(),
    "chrfpp": lambda: CHRF(word_order=2),
    "ter": lambda: TER(),
}


@pytest.mark.parametrize("name", PEERS)
def test_random_pairs_score_as_in_sacrebleu(name: str) -> None:
    count = 100 if name == "ter" else 1000  # its shifts are slow
    hyps = corpus(count, seed=1)
    one, two = noisy(hyps, 2, 0.3), corpus(count, seed=3)
    found = measure(name, hyps, [list(pair) for pair in zip(one, two, strict=True)])
    peer = PEERS[name]()
    assert found.value == peer.corpus_score(hyps, [one, two]).score
    peer.n_bootstrap, peer.seed = 1000, "12345"
    assert found.signature == str(peer.get_signature())
    assert found.items[:50] == [
        BLEU(effective_order=True).sentence_score(hyp, [a, b]).score
        if name == "bleu"
        else peer.sentence_score(hyp, [a, b]).score
        for hyp, a, b in zip(hyps[:50], one, two, strict=False)
    ]


@pytest.mark.parametrize("name", PEERS)
@patient
@given(pairs=st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
def test_any_texts_score_as_in_sacrebleu(name: str, pairs: list[tuple[str, str]]) -> None:
    hyps, refs = (list(side) for side in zip(*pairs, strict=True))
    found = measure(name, hyps, [[ref] for ref in refs])
    assert found.value == PEERS[name]().corpus_score(hyps, [refs]).score


def test_texts_may_have_different_numbers_of_references() -> None:
    hyps = ["a b c d e", "f g h i"]
    found = measure("bleu", hyps, [["a b c d x", "a b c d e"], ["f g h j"]])
    peer = BLEU()
    score = peer.corpus_score(hyps, [["a b c d x", "f g h j"], ["a b c d e", None]]).score
    assert found.value == score
    assert found.signature.startswith("nrefs:var|")


@pytest.mark.parametrize("name", ["bleu", "chrf", "ter"])
def test_same_seed_same_interval_and_same_p_as_sacrebleu(name: str) -> None:
    refs = corpus(200, seed=5)
    system, baseline = noisy(refs, 6, 0.30), noisy(refs, 7, 0.32)
    row = report([name], system, [[r] for r in refs], tokenize="13a", baseline=baseline)
    row = row["metrics"][name]
    test = PairedTest([("base", baseline), ("sys", system)], {name: PEERS[name]()}, [refs], "bs")
    _, scores = test()
    (results,) = [found for key, found in scores.items() if key != "System"]
    assert row["p"] == pytest.approx(results[1].p_value, abs=5e-5)
    assert row["p"] > 0.001
    low, high = row["ci95"]
    assert (high - low) / 2 == pytest.approx(float(results[1].ci), abs=1e-5)
    assert row["baseline"] == pytest.approx(results[0].score, abs=1e-6)


def test_one_chinese_pair_needs_the_chinese_tokenizer() -> None:
    hyp, ref = "我今天去了北京大学。", "我今天到了北京大学。"
    zh = measure("bleu", [hyp], [[ref]], lang="zh")
    assert zh.value == BLEU(tokenize="zh").corpus_score([hyp], [[ref]]).score > 50
    assert "tok:zh" in zh.signature
    assert measure("bleu", [hyp], [[ref]]).value == 0
    assert "asian:yes" in measure("ter", [hyp], [[ref]], lang="zh").signature


def test_japanese_without_mecab_is_cut_into_characters_and_says_so() -> None:
    found = measure("bleu", ["東京へ行く"], [["東京へ行った"]], lang="ja")
    assert "tok:char" in found.signature or "tok:ja-mecab" in found.signature


def test_mecab_that_is_asked_for_and_absent_is_named() -> None:
    try:
        import ipadic  # noqa: F401
    except ImportError:
        with pytest.raises(MissingError, match="tokenize=ja-mecab needs MeCab") as caught:
            check_things([opened("bleu", tokenize="ja-mecab")], ["x"], [["x"]])
        assert caught.value.hint == "install them with pip install 'sacrebleu[ja]'"


@pytest.mark.parametrize("name, peer", [("bleu", BLEU), ("chrf", CHRF)])
def test_case_counts_unless_it_is_not_asked_for(name: str, peer: type) -> None:
    hyps, refs = ["THE CAT sat down here"], [["The cat sat down here"]]
    mixed, lower = (measure(name, hyps, refs, lowercase=c) for c in (False, True))
    assert mixed.value < 100 == pytest.approx(lower.value)
    assert lower.value == peer(lowercase=True).corpus_score(hyps, refs).score
    assert "case:lc" in lower.signature


def test_a_perfect_sentence_of_two_words_is_100() -> None:
    assert scores("bleu", ["Hello world"], [["Hello world"]]) == [pytest.approx(100)]
    assert measure("bleu", ["Hello world"], [["Hello world"]]).value == 0


def test_tokenized_texts_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sacrebleu"):
        measure("bleu", ["a cat ."] * 100, [["a cat."]] * 100)
    assert "forgot to detokenize" in caplog.text


def test_pieces_are_taken_where_their_file_is_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SACREBLEU", str(tmp_path))
    metric = opened("bleu", tokenize="flores200")
    with pytest.raises(MissingError, match="tokenize=flores200 needs its file") as caught:
        metric.prepare()
    assert str(tmp_path / "models/flores200sacrebleuspm") in caught.value.message
    (tmp_path / "models").mkdir()
    (tmp_path / "models/flores200sacrebleuspm").write_bytes(b"")
    metric.prepare()
