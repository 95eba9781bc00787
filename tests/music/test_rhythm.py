"""Drum grids go around exactly; patterns obey what they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.data._pieces import common_classes
from aigc_cli.data.drums import Config, Data, beat, example
from aigc_cli.errors import DataError
from aigc_cli.media.drums import (
    DRUM_OF,
    DRUMS,
    PITCHES,
    codes,
    from_codes,
    from_grid,
    looped,
    to_grid,
)
from aigc_cli.media.events import Events, on_grid
from aigc_cli.media.midi import midi_bytes, read_midi
from aigc_cli.models.music import rhythm_gan, rhythm_vae
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.rhythm import DrumSpec

GRIDS = st.lists(st.integers(0, 511), min_size=16, max_size=16)


@given(GRIDS, st.sampled_from([60, 96, 120, 240]))
@settings(deadline=None, max_examples=30)
def test_grids_go_around_exactly_through_a_midi_file(rows: list[int], tempo: int) -> None:
    grid = from_codes(np.array([rows[0] | 1, *rows[1:]]))  # empty bars at the beginning go
    music = from_grid(grid, tempo, 4, 4)
    np.testing.assert_array_equal(to_grid(music), grid)
    np.testing.assert_array_equal(from_codes(codes(grid)), grid)
    data = midi_bytes(music.as_midi(), music.tempo, (4, 4))
    np.testing.assert_array_equal(to_grid(on_grid(read_midi(data, "x"), Events(4, 4), "x")), grid)


def test_every_drum_has_its_note() -> None:
    assert [DRUM_OF[pitch] for pitch in PITCHES] == list(range(len(DRUMS)))
    assert DRUM_OF[35] == 0  # acoustic bass drum
    assert 56 not in DRUM_OF  # cowbell


def test_short_patterns_repeat_and_long_ones_are_cut() -> None:
    grid = np.arange(6)[:, None] * np.ones((1, 9), int)
    assert [part[:, 0].tolist() for part in looped(grid, 4)] == [[0, 1, 2, 3]]
    assert [part[:, 0].tolist() for part in looped(grid, 8)] == [[0, 1, 2, 3, 4, 5, 0, 1]]
    assert len(looped(grid, 3)) == 2


def test_patterns_know_style_tempo_and_density(tmp_path: Path) -> None:
    data = Data(Config(**example(tmp_path)))
    assert data.spec.labels == ("half", "rock")
    item = data.val[0]
    assert item["grid"].shape == (16, 9)
    assert float(item["density"]) == pytest.approx((1 + 1 + 4) / 16)
    assert 120 * 2 ** float(item["tempo"]) == pytest.approx(96)
    assert item["drawn"].shape == (16, 9)
    assert 0 < float(item["markov"]) < float(item["unigram"]) + 10
    other = Data(Config(**{**example(tmp_path), "val": str(tmp_path)}), spec=data.spec)
    assert len(other.val) == 8
    assert "markov" not in other.val[0]
    (tmp_path / "reggae").mkdir()
    (tmp_path / "reggae/0.mid").write_bytes(beat(1, half=True))
    with pytest.raises(DataError, match=r"data.val: has style 'reggae', which is not trained"):
        Data(Config(train="none", val=str(tmp_path)), spec=data.spec)
    assert common_classes(["a", "a", "b", "c"], 2) == ("a", "other")
    assert common_classes(["a", "a"], 2) == ("a",)


SPEC = DrumSpec(1, 4, 4, 1.0, ("sparse", "dense"))


def grids(count: int, seed: int) -> torch.Tensor:
    return (torch.rand(count, 16, 9, generator=torch.Generator().manual_seed(seed)) > 0.6).float()


@pytest.mark.parametrize("family", [rhythm_vae, rhythm_gan])
@pytest.mark.parametrize("sizes", [[5], [1, 1, 3], [2, 3]])
def test_what_is_measured_of_a_set_is_the_same_however_it_is_spread(
    family: Any, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over batches, as over devices, whose sums are added: a device may have one item of all."""
    model = family.Model(family.Config.tiny(), SPEC).eval()
    made, real = grids(5, 0), grids(5, 1)
    parts = iter(made.split(sizes))
    monkeypatch.setattr(model, "draw", lambda noise, conditions: next(parts))
    model.start_means()
    for grid in real.split(sizes):
        batch = {"grid": grid, "tempo": torch.zeros(len(grid)), "density": grid.sum((1, 2)) / 16,
                 "label": torch.zeros(len(grid), dtype=torch.long)}  # fmt: skip
        with torch.no_grad():
            model.add_to_means(model.evaluate_batch(batch))
    means = model.validation_means()
    assert set(means) == set(model.metrics)
    assert means["rate_error"] == pytest.approx((made.mean(0) - real.mean(0)).abs().mean().item())
    hits = (made.sum((1, 2)) - real.sum((1, 2))).abs() / 16
    assert means["density_error"] == pytest.approx(hits.mean().item())
    # The same set has none, in whatever order.
    same = model.summarize(
        {
            name: value.double().mean().item()
            for name, value in model._compared(
                real.flip(0), {"grid": real, "density": hits}
            ).items()
        }
    )
    assert same["rate_error"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("family", [rhythm_vae, rhythm_gan])
def test_patterns_obey_style_and_density_once_learned(family: object) -> None:
    """Kicks on each beat, or a hat on each step: two steps of training would not suffice."""
    torch.manual_seed(0)
    model = family.Model(family.Config(hidden_dim=32, latent_dim=4, lr=5e-3), SPEC)  # type: ignore[attr-defined]
    kick, hat = torch.zeros(16, 9), torch.zeros(16, 9)
    kick[::4, 0], hat[:, 2] = 1, 1
    grid = torch.stack([kick, hat]).repeat(8, 1, 1)
    batch = {"grid": grid, "tempo": torch.zeros(16), "density": grid.sum((1, 2)) / 16,
             "label": torch.tensor([0, 1]).repeat(8)}  # fmt: skip
    model.rand = lambda n, *shape: torch.rand(n, *shape)
    model.randn = lambda n, *shape: torch.randn(n, *shape)
    made = model.configure_optimizers()
    optimizers = made if isinstance(made, list) else [made]
    for _ in range(120):
        for phase in model.phases():
            optimizers[phase.optimizer].zero_grad()
            phase.loss(batch)["loss"].backward()
            optimizers[phase.optimizer].step()
    options = family.Options(density=0.25, label="sparse", tempo=100)  # type: ignore[attr-defined]
    sparse = model.sample(SampleNoise(0, 0, 4), options)
    options = family.Options(density=1.0, label="1")  # type: ignore[attr-defined]
    dense = model.sample(SampleNoise(0, 0, 4), options)
    assert sparse[0].tempo == 96  # the nearest that is written
    assert np.mean([len(music.notes) for music in sparse]) == pytest.approx(4, abs=2)
    assert np.mean([len(music.notes) for music in dense]) == pytest.approx(16, abs=4)
    values = model.eval().evaluate_batch(batch)
    assert float(values["density_error"].mean().detach()) < 0.2
