"""Checkpoints of 0.1, before families said what they take and make, still sample and go on.

`before_rooms/` holds three that version d58ee36 wrote; what it made of them stands here.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aigc_cli.media.image import read_image
from aigc_cli.run.checkpoint import load_checkpoint, save_checkpoint
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
OLD = Path(__file__).parent / "before_rooms"


def test_a_language_model_writes_what_it_wrote(aigc: Aigc, here: Path) -> None:
    ending = aigc("sample", OLD / "lm.ckpt", "--prompt", "the", "--out", "made")
    assert ending.code == 0, ending.err
    row = json.loads((here / "made/samples.jsonl").read_text())
    assert row["text"] == "h mt\n\nmh"


def test_a_classifier_names_what_it_named(aigc: Aigc, here: Path) -> None:
    words = ("--prompt", "the cat sings", "--out", "made")
    ending = aigc("sample", OLD / "text_classifier.ckpt", *words)
    assert ending.code == 0, ending.err
    (row,) = csv.DictReader((here / "made/labels.csv").read_text().splitlines())
    assert row["label_1"] == "calm"
    assert float(row["p_1"]) == pytest.approx(0.6158, abs=2e-4)


def test_super_resolution_makes_the_same_image_but_for_its_edges(aigc: Aigc, here: Path) -> None:
    """Whole images have a border of context now, so the outer pixels differ, as they should."""
    words = ("--input", "photos/photo 00.png", "--out", "made", "precision=fp32")
    ending = aigc("sample", OLD / "edsr.ckpt", *words)
    assert ending.code == 0, ending.err
    made = read_image(here / "made/photo 00_x2.png").pixels[30:32, 30:33].astype(int)
    before = [
        [[114, 115, 95], [118, 119, 103], [114, 109, 97]],
        [[118, 113, 107], [109, 105, 102], [115, 112, 107]],
    ]
    assert np.abs(made - before).max() <= 1


def test_keys_of_another_spelling_are_those_of_today(tmp_path: Path) -> None:
    state = load_checkpoint(OLD / "edsr.ckpt")
    state["recipe"]["data"] |= {"unlabelled": None}
    save_checkpoint(state, tmp_path / "old.ckpt")
    data = load_checkpoint(tmp_path / "old.ckpt")["recipe"]["data"]
    assert "unlabelled" not in data
    assert data["unlabeled"] is None


def test_its_run_goes_on(aigc: Aigc, here: Path) -> None:
    recipe = ["data.train=photos", "trainer.max_steps=3", "trainer.global_batch=4"]
    ending = aigc("train", "edsr.yaml", "--resume", OLD / "edsr.ckpt", "--out", "run", *recipe)
    assert ending.code == 0, ending.err
    assert (here / "run/checkpoints/last.ckpt").is_file()
