"""Tokens of several events: what goes around, what may follow, and what is measured of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.data.midi import Config, Data, example, read_pieces
from aigc_cli.errors import DataError
from aigc_cli.media.events import Events, Grammar, Music, settle
from aigc_cli.media.merges import Merges
from aigc_cli.models.music.music_lm import Model
from aigc_cli.registry import load_family
from tests.music.test_music import pieces

EVENTS = Events(4, 4)
SIZE = EVENTS.offsets["size"] + 150


def crowded(seed: int) -> Music:
    """A piece of few different notes, so that they meet in all ways: drums and three others."""
    draw = np.random.default_rng(seed)
    start, duration = draw.integers(0, 32, 120) * 4, draw.integers(1, 9, 120)
    pitch, instrument = draw.integers(60, 64, 120), draw.choice([0, 5, 16], 120, p=[0.8, 0.1, 0.1])
    notes = settle(np.stack([start, duration, pitch, instrument], 1))
    return Music(notes, 4, 4, 8, 120, 0)


def rows_of(music: list[Music]) -> list[list[int]]:
    return [[*EVENTS.row(piece), EVENTS.offsets["end"]] for piece in music]


MERGES = Merges.learn(EVENTS, rows_of([crowded(seed) for seed in range(40)]), SIZE)


def test_the_same_pieces_give_the_same_merges() -> None:
    again = Merges.learn(EVENTS, rows_of([crowded(seed) for seed in range(40)]), SIZE)
    assert again.pairs == MERGES.pairs
    stored = Merges(EVENTS, MERGES.pairs)
    assert stored.spelled == MERGES.spelled
    assert len(stored.spelled) == SIZE
    assert MERGES.lengths.max() > 5


def test_real_pieces_go_around_exactly_in_fewer_tokens() -> None:
    music = read_pieces("builtin:pop909:songs", EVENTS).music
    merges = Merges.learn(EVENTS, rows_of(music[:10]), EVENTS.offsets["size"] + 256)
    for row in rows_of(music):
        assert merges.split(merged := merges.merged(row)) == row
        assert len(merged) < 0.75 * len(row)


@given(pieces(), st.integers(0, 2**32))
@settings(deadline=None, max_examples=60)
def test_any_piece_goes_around_exactly(music: Music, seed: int) -> None:
    for piece in (music, crowded(seed)):
        whole = EVENTS.row(piece)
        assert MERGES.split(MERGES.merged(whole)) == whole
        # A bar has the same tokens wherever it stands, and what is around bars is never merged.
        head, *bars = EVENTS.encode(piece)
        assert MERGES.merged(whole) == head + [t for bar in bars for t in MERGES.merged(bar)]
        hole = EVENTS.with_hole(piece, 0, 1)
        assert MERGES.split(MERGES.merged(hole)) == hole
        assert MERGES.merged(hole)[: len(head) + 1] == [*head, EVENTS.offsets["hole"]]
        assert MERGES.merged(hole)[-1] == EVENTS.offsets["fill"]


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_a_token_is_allowed_where_its_events_are_one_after_the_other(seed: int) -> None:
    def walks(grammar: Grammar, token: tuple[int, ...]) -> bool:
        grammar = grammar.copy()
        return all(grammar.allowed()[event] and grammar.read([event]) for event in token)

    random, grammar, row = np.random.default_rng(seed), Grammar(EVENTS, {"key": 3}), []
    grammar.left = 3
    while not row or row[-1] != EVENTS.offsets["end"]:
        allowed = MERGES.allowed(grammar)
        first = grammar.allowed()[MERGES.first]
        for token in np.flatnonzero(first & (MERGES.lengths > 1)):
            assert allowed[token] == walks(grammar, MERGES.spelled[token])
        assert not allowed[~first].any()
        several = allowed & (MERGES.lengths > 1)
        some = several if several.any() and random.random() < 0.6 else allowed & ~several
        row.append(int(random.choice(np.flatnonzero(some))))
        grammar.read(MERGES.split(row[-1:]))
    assert EVENTS.decode(MERGES.split(row)).bars == 3


def test_nats_are_those_of_events(tmp_path: Path) -> None:
    found = {}
    for size in (None, 300):
        config = {**example(tmp_path), "context": 24, "vocab_size": size}
        data = Data(Config(**config))
        batch = {name: torch.stack([data.val[n][name] for n in range(len(data.val))])
                 for name in data.val[0]}  # fmt: skip
        model = Model(load_family("music_lm").Config.tiny(), data.spec).eval()
        with torch.no_grad():
            totals = {"model": model.evaluate_batch(batch), **model.baselines(batch)}
        found[size] = {
            f"{name} {key}": float(value.sum())
            for name, total in totals.items()
            for key, value in total.items()
        }
        found[size]["rows"] = len(data.val)
        row = data.val.rows[0].tolist()
        assert data.val.merges.split(row) == rows_of(data.music["data.val"])[0]
        checked = Data(Config(**{**config, "vocab_size": None}), spec=data.spec)
        assert checked.val.rows[0].tolist() == row
    for key in ("unigram nats", "markov nats", "model tokens", "markov tokens"):
        assert found[None][key] == pytest.approx(found[300][key])
    assert found[300]["rows"] < found[None]["rows"]  # each of more events


def test_numbers_of_tokens_that_cannot_be_are_a_sentence(tmp_path: Path) -> None:
    source = example(tmp_path)
    with pytest.raises(DataError, match=r"data.vocab_size=100: the events .* alone are 25\d$"):
        Data(Config(**source, vocab_size=100))
    with pytest.raises(DataError, match=r"data.vocab_size=9000: the training pieces have what \d"):
        Data(Config(**source, vocab_size=9000))
