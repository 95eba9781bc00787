"""A classifier from the command line: train, name pictures, judge; and the confusion matrix."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aigc_cli.run.classification import as_csv, by_class, draw
from aigc_cli.run.features import open_features
from tests.run.conftest import Ending

COUNTS = np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]])
NAMES = ("cat", "dog", "emu")

RECIPE = """
family: classifier
seed: 0
data: {kind: images, train: animals, image_size: 8, cache: none}
model: {widths: [8], depths: [1], lr: 0.05}
trainer:
  max_steps: 60
  global_batch: 8
  log_every: 60
  precision: fp32
"""


def test_recall_and_precision_by_class() -> None:
    cat, dog, emu = by_class(COUNTS, NAMES)
    assert cat == {
        "class": "cat",
        "n": 10,
        "recall": 0.8,
        "precision": 8 / 9,
        "mistaken for": "dog (2)",
    }
    assert dog["recall"] == 0.8
    assert dog["precision"] == 4 / 6
    assert emu == {"class": "emu", "n": 0, "recall": None, "precision": None, "mistaken for": None}


def test_the_table_has_truth_in_rows() -> None:
    rows = list(csv.reader(as_csv(COUNTS, NAMES).splitlines()))
    assert rows[0] == ["is / named", "cat", "dog", "emu"]
    assert rows[1] == ["cat", "8", "2", "0"]


def test_the_matrix_is_the_bluer_the_larger_the_share() -> None:
    def blue(counts: np.ndarray) -> int:  # pixels of the colour of a full row
        return int((draw(counts, NAMES).pixels == (31, 90, 160)).all(-1).sum())

    full, half = np.diag([9, 9, 9]), np.full((3, 3), 9)
    assert blue(full) > 500
    assert blue(half) == 0
    assert draw(np.ones((60, 60), int), [f"class {i}" for i in range(60)]).width < 1000


@pytest.fixture
def animals(here: Path) -> Path:
    """Dark cats, bright dogs."""
    for name, level in (("cat", 40), ("dog", 200)):
        (here / "animals" / name).mkdir(parents=True)
        for number in range(12):
            noise = np.random.default_rng(number).integers(-30, 30, (8, 8, 3))
            Image.fromarray((level + noise).astype(np.uint8)).save(
                here / "animals" / name / f"{number:02d}.png"
            )
    (here / "animals.yaml").write_text(RECIPE)
    return here


def test_train_name_and_judge(aigc: Callable[..., Ending], animals: Path) -> None:
    assert aigc("train", "animals.yaml", "--out", "run").code == 0
    assert aigc("sample", "run", "--input", "animals/dog", "--out", "names").code == 0
    rows = list(csv.DictReader((animals / "names" / "labels.csv").read_text().splitlines()))
    assert [row["label_1"] for row in rows] == ["dog"] * 12
    made = aigc("evaluate", "run", "--save", "seen", "--require", "macro_recall>=0.9")
    assert made.code == 0, made.err
    assert "macro_recall" in made.out
    assert "precision  mistaken for" in made.out
    assert {p.name for p in (animals / "seen").iterdir()} >= {"confusion.png", "confusion.csv"}
    found = aigc("evaluate", "run", "--json").json
    assert [row["class"] for row in found["classes"]] == ["cat", "dog"]
    network = open_features("run")
    assert network.stamp.startswith("classifier ")
    assert network.layers == ("conv1_1", "norm1_1", "relu1_1", "pooled", "logits")
    made = aigc("evaluate", "run", "--require", "macro_recal>=0.9")
    assert made.code == 2
    assert "did you mean 'macro_recall'?" in made.err


def test_another_head_on_the_same_layers(aigc: Callable[..., Ending], animals: Path) -> None:
    assert aigc("train", "animals.yaml", "trainer.max_steps=1", "--out", "run").code == 0
    emu = animals / "animals" / "emu"
    emu.mkdir()
    for number in range(12):
        Image.new("RGB", (8, 8), (number, 255, 0)).save(emu / f"{number}.png")
    again = aigc("train", "animals.yaml", "trainer.max_steps=1", "init_from=run", "--out", "three")
    assert again.code == 0, again.err
    assert "from scratch: net.logits.1.bias, net.logits.1.weight" in again.err


def test_a_run_of_another_family_has_no_features(aigc: Callable[..., Ending], here: Path) -> None:
    assert aigc("train", "edsr.yaml", "trainer.max_steps=1", "--out", "run").code == 0
    made = aigc("sample", "deepdream", "--input", "photos", "model.features=run")
    assert made.code == 2
    assert "a checkpoint of family edsr, which has no features" in made.err


def test_a_classifier_needs_classes(aigc: Callable[..., Ending], animals: Path) -> None:
    made = aigc("train", "animals.yaml", "data.train=photos", "data.resize=crop")
    assert made.code == 2
    assert "a classifier needs classes, and the data has none" in made.err
    assert not (animals / "runs").exists()


def test_dreams_with_frames(aigc: Callable[..., Ending], here: Path) -> None:
    photo = "photos/photo 00.png"
    made = aigc(
        "sample", "deepdream", "--input", photo, "model.features=random:cnn", "layers=[relu1_2]",
        "octaves=2", "steps=1", "zoom_frames=2", "--out", "dream",
    )  # fmt: skip
    assert made.code == 0, made.err
    with Image.open(here / "dream" / "photo 00.gif") as film:
        assert film.n_frames == 2
        assert film.size == (40, 40)
    wrong = aigc(
        "sample", "deepdream", "--input", photo, "model.features=random:cnn", "layers=[relu9_1]"
    )
    assert wrong.code == 2
    assert "cnn random seed 0 has no layer 'relu9_1'" in wrong.err
