"""Melodies go around exactly; codes of easy melodies give them back, and ways lead from one to
another.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.data.melodies import Config as DataConfig
from aigc_cli.data.melodies import Data, example
from aigc_cli.errors import InputError
from aigc_cli.media.events import Music
from aigc_cli.media.melody import HOLD, PITCH, REST, SIZE, from_melody, hamming, melody, settled
from aigc_cli.modalities import find_modality
from aigc_cli.modalities._modality import Task
from aigc_cli.models.music.music_vae import Config, Model, Options, attributes, way_measures
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.melody import MelodySpec

SYMBOLS = st.one_of(st.sampled_from([REST, HOLD]), st.integers(PITCH, SIZE - 1))


@given(st.lists(SYMBOLS, min_size=16, max_size=16))
@settings(deadline=None)
def test_melodies_go_around_exactly(symbols: list[int]) -> None:
    row = settled(np.array(symbols))
    np.testing.assert_array_equal(melody(from_melody(row, 4, 4, 120)), row)
    music = from_melody(np.array(symbols), 4, 4, 120)
    np.testing.assert_array_equal(melody(music), row)
    assert hamming(np.array(symbols), row) == 0


def test_the_highest_voice_is_the_melody() -> None:
    chords = [[0, 16, 48, 0], [0, 16, 52, 0]]
    notes = [[0, 4, 72, 0], [4, 2, 74, 0], [8, 2, 60, 0], [8, 4, 76, 0], [10, 1, 40, 0]]
    drums = [[2, 1, 90, 16]]
    row = melody(Music(np.array(sorted(chords + notes + drums)), 4, 4, 1, 120, 0))
    heard = {step: int(symbol) - PITCH for step, symbol in enumerate(row) if symbol >= PITCH}
    assert heard == {0: 72, 4: 74, 8: 76}
    assert row[6] == REST
    assert row[11] == HOLD
    assert row[12] == REST


def test_every_melody_has_a_note_in_each_half_and_a_price(tmp_path: Path) -> None:
    data = Data(DataConfig(**example(tmp_path)))
    item = data.val[0]
    assert item["melody"].shape == (32,)
    assert float(item["markov"]) < float(item["unigram"])
    moved = {tuple(data.train[(0, seed)]["melody"].tolist()) for seed in range(40)}
    assert len(moved) == 11  # five semitones up and down
    again = Data(DataConfig(train="none", val=str(tmp_path)), spec=data.spec)
    assert "markov" not in again.val[0]


def trained() -> tuple[Model, torch.Tensor]:
    """A model of two melodies, up and down."""
    torch.manual_seed(0)
    model = Model(
        Config(latent_dim=4, hidden_dim=24, embedding=8, beta=0.01, hide=0.5, lr=0.02),
        MelodySpec(2, 2, 4, 120),
    )
    up = torch.tensor([62, HOLD, 64, HOLD, 66, HOLD, 67, HOLD] * 2)
    down = torch.tensor([74, 73, 71, 69, 67, 66, 64, REST] * 2)
    rows = torch.stack([up, down])
    model.rand = lambda n, *shape: torch.rand(n, *shape)
    model.randn = lambda n, *shape: torch.randn(n, *shape)
    optimizer = model.configure_optimizers()
    for model.step in range(150):
        optimizer.zero_grad()
        model.loss({"melody": rows})["loss"].backward()
        optimizer.step()
    return model.eval(), rows


def test_codes_give_melodies_back_and_ways_lead_from_one_to_the_other() -> None:
    model, rows = trained()
    batch = {"melody": rows}
    with torch.no_grad():
        values = model.measure(batch, Options())
        teacher = model.decode(model.encode(rows)[0], rows).argmax(-1)
    assert float(values["accuracy"].min()) == 1
    torch.testing.assert_close(teacher, rows)  # written freely and read along it is the same
    assert float(values["monotone"].min()) > 0.5
    notes = [torch.from_numpy(from_melody(row.numpy(), 2, 4, 120).notes) for row in rows]
    way = model.between(notes, 4, Options(), SampleNoise(0, 0, 2))
    assert len(way) == 5
    assert hamming(melody(way[0]), rows[0].numpy()) == 0
    assert hamming(melody(way[-1]), rows[1].numpy()) == 0
    (again,) = model.sample(SampleNoise(0, 0, 1), Options(temperature=0), notes[1])
    assert hamming(melody(again), rows[1].numpy()) == 0
    assert len(model.between(None, 3, Options(), SampleNoise(1, 0, 3))) == 7
    with pytest.raises(InputError, match="one piece has no way to another"):
        model.between(notes[:1], 3, Options(), SampleNoise(1, 0, 1))
    with pytest.raises(InputError, match="no melody in its first 2 bars"):
        model.sample(SampleNoise(0, 0, 1), Options(), torch.zeros((0, 4), dtype=torch.int64))
    # The first melody has eight notes, the second fourteen.
    more = model.sample(SampleNoise(2, 0, 8), Options(attribute="density", amount=3.0))
    fewer = model.sample(SampleNoise(2, 0, 8), Options(attribute="density", amount=-3.0))
    assert sum(len(m.notes) for m in more) > sum(len(m.notes) for m in fewer)
    alone = model.sample(SampleNoise(2, 3, 1), Options())
    together = model.sample(SampleNoise(2, 0, 4), Options())
    np.testing.assert_array_equal(alone[0].notes, together[3].notes)


def test_attributes_are_those_of_a_hand() -> None:
    rows = torch.tensor([[62, HOLD, 66, REST], [REST, 72, HOLD, HOLD], [REST] * 4])
    found = attributes(rows, 2)
    assert found["density"].tolist() == [2, 1, 0]
    assert found["pitch"].tolist() == [62, 70, 0]
    assert found["range"].tolist() == [4, 0, 0]
    assert found["syncopation"].tolist() == [0, 1, 0]


def test_ways_are_measured_from_their_beginning() -> None:
    rows = [np.array(row) for row in ([1, 2, 3, 4], [9, 2, 3, 4], [9, 9, 3, 4], [9, 9, 9, 9])]
    distance = lambda a, b: float((a != b).mean())  # noqa: E731
    assert way_measures(rows, distance) == (1.0, 0.5)
    assert way_measures([rows[0], rows[2], rows[1], rows[3]], distance) == (2 / 3, 0.25)
    assert way_measures([rows[0]] * 3, distance) == (1.0, 1.0)


def test_files_of_music_are_given_as_their_notes(tmp_path: Path) -> None:
    model, _ = trained()
    music = find_modality("music")
    music.example_files(tmp_path)
    task = Task(model, None, reading=Section())  # type: ignore[arg-type]
    inputs = music.open(tmp_path, task, music)
    assert [inputs.name(i) for i in range(len(inputs))] == ["scale 0.mid", "scale 7.mid"]
    assert len(model.row_of(inputs[0].given)) == 16
    assert music.thing_of(inputs[0].given, task).resolution == 2
