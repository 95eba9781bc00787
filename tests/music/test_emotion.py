"""Rolls show the notes; classes come from folders, names or a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from aigc_cli.data.midi import scale_file
from aigc_cli.data.rolls import Config, Data, example
from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.media.roll import KEYS, LOWEST, stretches, to_roll
from aigc_cli.models.music.music_emotion import Config as ModelConfig
from aigc_cli.models.music.music_emotion import Model, Options


def test_a_roll_has_struck_and_held_keys() -> None:
    notes = [[0, 3, 60, 0], [2, 2, 60, 0], [1, 9, 20, 0], [3, 1, 40, 16]]
    roll = to_roll(Music(np.array(notes), 2, 2, 1, 120, 0))
    assert roll.shape == (2, KEYS, 4)
    assert roll[0].nonzero()[1].tolist() == [0, 2]
    assert roll[1, 60 - LOWEST].tolist() == [True] * 4
    assert roll.sum() == 6  # what lies below a piano, and drums, are left out


def test_stretches_follow_each_other() -> None:
    notes = np.array([[step, 1, 60, 0] for step in range(12)])
    parts = stretches(Music(notes, 2, 2, 3, 120, 0), 8)
    assert [int(part[0].sum()) for part in parts] == [8, 4]
    assert len(stretches(Music(notes[:4], 2, 2, 1, 120, 0), 16)) == 1


def test_classes_are_those_of_folders_names_or_a_table(tmp_path: Path) -> None:
    config = example(tmp_path / "set")
    data = Data(Config(**config))
    assert data.spec.labels == ("high", "low")
    assert sum(data.spec.shares) == pytest.approx(1)
    item = data.train[(0, 3)]
    assert item["roll"].shape == (2, 88, 16)
    rows = ["file,valence,arousal", *(f"high/{n}.mid,1,-1" for n in range(4))]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join([*rows, *(f"low/{n}.mid,-1,-1" for n in range(4))]))
    columns = ("valence", "arousal")
    told = Data(Config(**config, label_table=str(table), label_columns=columns))
    assert told.spec.labels == ("-1 -1", "1 -1")
    table.write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"has no row for 'low/1.mid' \(3 files\)"):
        Data(Config(**config, label_table=str(table), label_columns=columns))
    with pytest.raises(DataError, match="is no CSV with columns file, mood"):
        Data(Config(**config, label_table=str(table), label_columns=("mood",)))
    with pytest.raises(DataError, match="pieces have no classes"):
        Data(Config(**{**config, "train": str(tmp_path / "set/high")}))


def test_generated_pieces_train_and_do_not_validate(tmp_path: Path) -> None:
    config = example(tmp_path / "set")
    plain = Data(Config(**config))
    made = tmp_path / "made"
    (made / "low").mkdir(parents=True)
    (made / "low/x.mid").write_bytes(scale_file(3, bars=2))
    (made / "high").mkdir()
    (made / "high/y.mid").write_bytes(scale_file(5, bars=2))
    more = Data(Config(**config, generated=str(made)))
    assert len(more.train) == len(plain.train) + 4
    assert len(more.val) == len(plain.val)
    assert more.spec == plain.spec


def test_high_and_low_are_told_apart_and_pieces_by_all_they_have(tmp_path: Path) -> None:
    data = Data(Config(**example(tmp_path), transpose=0))
    torch.manual_seed(0)
    model = Model(ModelConfig.tiny(lr=0.02), data.spec)
    batch = {
        name: torch.stack([data.train[(i, 0)][name] for i in range(len(data.train))])
        for name in ("roll", "label")
    }
    optimizer = model.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(batch)["loss"].backward()
        optimizer.step()
    model.eval()
    val = {name: torch.stack([data.val[i][name] for i in range(4)]) for name in ("roll", "label")}
    with torch.no_grad():
        assert float(model.evaluate_batch(val)["accuracy"].mean()) == 1
    majority = model.baselines(val)["majority"]
    assert float(majority["cross_entropy"].mean()) == pytest.approx(np.log(2), abs=1e-5)
    one = {name: values[:1] for name, values in val.items()}
    notes = model.example(one, Options()).given
    again = model._rolls(notes)[0]
    torch.testing.assert_close(again[0], one["roll"][0, 0])  # the same keys are struck
    torch.testing.assert_close(
        model.classify_things([notes])[0], model.classify({"roll": again[None]})[0]
    )
