"""Measures of pieces and of sets of pieces, against definitions, brute force and SciPy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, Events, Music, settle
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.music._features import _density, alike, distances, features_of
from aigc_cli.metrics.music._runs import longest_runs, steps_of
from aigc_cli.metrics.music.tonal_distance import centroids
from aigc_cli.modalities._judging import Listed
from aigc_cli.modalities._judging_music import chain_of, stretches_of
from aigc_cli.registry import load_metric
from aigc_cli.sampling.markov import Markov
from aigc_cli.specs.music import FramesSpec, MusicSpec

DRUM = INSTRUMENTS - 1


def piece(*notes: tuple[int, int, int, int], bars: int = 2) -> Music:
    rows = np.array(notes, np.int64).reshape(-1, 4)
    return Music(settle(rows), 4, 4, bars, 120, 0)


def value(name: str, music: Music, **options: Any) -> float:
    metric = load_metric(name).Metric
    return float(metric(metric.Options(**options)).compute(music))


# C and E in the first bar of a piano, C an octave higher in the second of a bass; two hits.
SMALL = piece((0, 4, 60, 0), (4, 1, 64, 0), (16, 4, 72, 4), (2, 1, 36, DRUM), (5, 1, 38, DRUM))


def test_measures_of_musegan_by_hand() -> None:
    assert value("empty_bar_rate", SMALL) == pytest.approx(3 / 6)  # of 3 instruments in 2 bars
    assert value("pitch_classes_per_bar", SMALL) == pytest.approx(3 / 2)
    assert value("qualified_notes", SMALL) == 1
    assert value("qualified_notes", SMALL, quarters=0.5) == pytest.approx(2 / 3)
    assert value("drum_pattern_rate", SMALL) == pytest.approx(1 / 2)  # the second is on a sixteenth
    assert value("drum_pattern_rate", SMALL, parts=16) == 1


def test_tonal_centroids_are_those_of_harte() -> None:
    """A fifth is near, a tritone is far; one class against itself is no distance."""
    C, G, F_sharp = (centroids(np.eye(12)[[pitch]])[0] for pitch in (0, 7, 6))
    np.testing.assert_allclose(C, [0, 1, 0, 1, 0, 0.5], atol=1e-9)
    assert np.linalg.norm(C - G) < np.linalg.norm(C - F_sharp)
    both = piece((0, 4, 60, 0), (0, 4, 72, 4))
    assert value("tonal_distance", both) == pytest.approx(0, abs=1e-9)
    apart = piece((0, 4, 60, 0), (0, 4, 66, 4), (4, 4, 60, 0))  # the last sounds alone
    assert value("tonal_distance", apart) == pytest.approx(np.linalg.norm(C - F_sharp))
    with pytest.raises(DataError, match="no two instruments"):
        value("tonal_distance", piece((0, 4, 60, 0)))


ROWS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(1, 2), st.integers(60, 62), st.just(0)), max_size=12
)


@given(st.lists(ROWS, min_size=1, max_size=3), st.lists(ROWS, min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_longest_runs_are_those_of_brute_force(mine: list[Any], theirs: list[Any]) -> None:
    pieces, others = [piece(*rows) for rows in mine], [piece(*rows) for rows in theirs]
    known = [[tuple(row) for row in steps_of(music).tolist()] for music in others]

    def brute(music: Music) -> int:
        own, best = [tuple(row) for row in steps_of(music).tolist()], 0
        for i in range(len(own)):
            for n in range(1, len(own) - i + 1):
                run = own[i : i + n]
                if any(run == row[j : j + n] for row in known for j in range(len(row))):
                    best = max(best, n + 1)
        return best

    assert longest_runs(pieces, others).tolist() == [brute(music) for music in pieces]


def test_a_copy_in_another_key_and_on_another_grid_is_a_copy() -> None:
    notes = [(step, 1, 60 + step * 5 % 12, 0) for step in range(0, 30, 2)]
    finer = np.array([(2 * a, 2 * b, c + 3, 9) for a, b, c, _ in notes], np.int64)
    copy = Music(settle(finer), 8, 4, 2, 120, 0)
    assert longest_runs([copy], [piece(*notes)]).tolist() == [15]
    metric = load_metric("copied_run").Metric()
    side = Side(Listed([piece(*notes[:4]), copy], ""), None, Listed([piece(*notes)], ""))
    assert metric.compute(side) == 15
    assert metric.notes(side) == ["copied_run: 9.5 notes on average over 2 pieces"]


def test_densities_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).gamma(2, 2, 500)
    grid = np.linspace(-5, 30, 1000)
    np.testing.assert_allclose(_density(values, grid), stats.gaussian_kde(values)(grid), atol=2e-3)


def test_overlap_is_one_for_equal_sets_and_known_for_normal_ones() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(0, 1, 20_000), random.normal(2, 1, 20_000)
    assert alike(a, a) == (pytest.approx(1), pytest.approx(0))
    overlap, divergence = alike(a, b)
    assert overlap == pytest.approx(0.3173, abs=0.02)  # 2 Phi(-1)
    assert divergence == pytest.approx(2, abs=0.2)  # (mu - m)^2 / 2
    assert alike(np.ones(3), np.ones(4)) == (1, 0)


def test_distances_are_those_between_rows() -> None:
    a, b = np.array([[0.0, 0], [3, 4], [6, 8]]), np.array([[0.0, 5]])
    np.testing.assert_allclose(distances(a), [5, 10, 5])
    np.testing.assert_allclose(distances(a, b), [5, 10**0.5, 45**0.5])


def test_features_by_hand() -> None:
    found = features_of(SMALL)
    assert found["pitch_count"] == 3
    assert found["pitch_count_bar"] == pytest.approx(1.5)
    assert found["note_count_bar"] == pytest.approx(1.5)
    assert found["pitch_range"] == 12
    assert found["pitch_interval"] == pytest.approx((4 + 8) / 2)
    assert found["onset_interval"] == pytest.approx((1 + 3) / 2)  # quarters
    assert found["pitch_classes"][[0, 4]] == pytest.approx([2 / 3, 1 / 3])
    assert found["note_lengths"].max() == pytest.approx(2 / 3)  # two quarters of three notes
    silent = features_of(piece())
    assert all(np.isfinite(part).all() for part in silent.values())


def test_what_stands_beside_a_model_has_as_many_bars() -> None:
    notes = [(16 * bar + step, 2, 60 + step, 0) for bar in range(5) for step in (0, 4, 8)]
    music = [piece(*notes, bars=5)] * 2
    data: Any = SimpleNamespace(music={"data.val": music}, spec=MusicSpec(64, 4, 4, ()))
    assert [part.bars for part in stretches_of(data, "data.val", 2, 3)] == [2, 2, 2]
    assert stretches_of(data, "data.val", 0, 9) == music
    events = Events(4, 4)
    rows = [np.array([*events.row(m), 0]) for m in music]
    data.val = SimpleNamespace(chains=[Markov(rows, events.offsets["size"], 2)])
    write = chain_of(data, 3)
    assert write is not None
    first = write(0)
    assert first.bars == 3
    np.testing.assert_array_equal(first.notes, write(0).notes)
    data.spec = FramesSpec(8, 2, 4, 90, (0.0,) * 40 + (1.0,) + (0.0,) * 47, (0.0,) * 176)
    write = chain_of(data, 1)
    assert write is not None
    assert write(0).notes.tolist() == [[0, 1, 61, 0]]  # sounds at first, and never again
