"""A classifier from the command line: train, name images, judge; and the confusion matrix."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import multiclass_f1_score

from aigc_cli.metrics.labels._classes import by_class
from aigc_cli.modalities._judging_labels import as_csv, draw
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
        "f1": 16 / 19,
        "mistaken for": "dog (2)",
    }
    assert dog["recall"] == 0.8
    assert dog["precision"] == 4 / 6
    assert set(emu.values()) == {"emu", 0, None}


def test_f1_is_that_of_torchmetrics() -> None:
    truth, named = torch.randint(4, (2, 60), generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(truth * 4 + named, minlength=16).view(4, 4).numpy()
    expected = multiclass_f1_score(named, truth, num_classes=4, average=None).tolist()
    assert [row["f1"] for row in by_class(counts, "abcd")] == pytest.approx(expected)


def test_the_table_has_truth_in_rows() -> None:
    rows = list(csv.reader(as_csv(COUNTS, NAMES).splitlines()))
    assert rows[0] == ["is / named", "cat", "dog", "emu"]
    assert rows[1] == ["cat", "8", "2", "0"]


def test_the_matrix_is_the_bluer_the_larger_the_share() -> None:
    def blue(counts: np.ndarray) -> int:  # pixels of the color of a full row
        return int((draw(counts, NAMES).pixels == (31, 90, 160)).all(-1).sum())

    full, half = np.diag([9, 9, 9]), np.full((3, 3), 9)
    assert blue(full) > 500
    assert blue(half) == 0
    assert draw(np.ones((60, 60), int), [f"class {i}" for i in range(60)]).width < 1000


TEXTS = """
family: text_classifier
seed: 0
data: {kind: labelled_texts, train: said.csv, tokenizer: {kind: words}}
model: {dim: 16, num_heads: 2, num_layers: 1, dropout: 0.0, lr: 0.02}
trainer:
  max_steps: 40
  global_batch: 8
  log_every: 40
  precision: fp32
"""


@pytest.fixture
def said(here: Path) -> Path:
    """Every third sentence is glad."""
    animals = ("cat", "dog", "owl", "cow", "fox", "hen", "bat", "bee", "ant", "pig")
    rows = [
        f"the {a} {'sings' if n % 3 == 0 else 'sleeps'},{'glad' if n % 3 == 0 else 'calm'}\n"
        for n, a in enumerate(animals * 3)
    ]
    (here / "said.csv").write_text("text,label\n" + "".join(rows))
    (here / "said.yaml").write_text(TEXTS)
    return here


def test_train_name_and_judge_texts(aigc: Callable[..., Ending], said: Path) -> None:
    assert aigc("train", "said.yaml", "--out", "run", "--quiet").code == 0
    (said / "lines.txt").write_text("an owl sings\na pig sleeps\n\n")
    assert aigc("sample", "run", "--input", "lines.txt", "--out", "names").code == 0
    rows = list(csv.DictReader((said / "names" / "labels.csv").read_text().splitlines()))
    assert [row["text"] for row in rows] == ["an owl sings", "a pig sleeps", ""]
    assert [row["label_1"] for row in rows[:2]] == ["glad", "calm"]
    assert float(rows[0]["p_1"]) + float(rows[0]["p_2"]) == pytest.approx(1, abs=1e-3)
    answer = {"prompt": "a pig sleeps", "text": "an owl sings"}
    (said / "answers.jsonl").write_text(json.dumps(answer))
    assert aigc("sample", "run", "--input", "answers.jsonl", "--out", "judged").code == 0
    assert "an owl sings,glad" in (said / "judged" / "labels.csv").read_text()
    shown = aigc("sample", "run", "--prompt", "an owl sings", "--out", "one")
    assert shown.out == f"glad {rows[0]['p_1']}  an owl sings\n"
    found = aigc("evaluate", "run", "--save", "seen", "--json", "--require", "macro_f1>=0.9").json
    assert found["metrics"]["accuracy"]["value"] == 1
    assert found["metrics"]["accuracy"]["majority"] == pytest.approx(2 / 3, abs=1e-3)
    assert [row["class"] for row in found["classes"]] == ["calm", "glad"]
    assert {p.name for p in (said / "seen").iterdir()} == {
        "confusion.csv", "confusion.png", "samples",
    }  # fmt: skip


@pytest.mark.parametrize(
    "words, message",
    [
        (("--prompt", "a", "-n", "2"), "each input has one answer"),
        (("--prompt", "a", "--output", "a.jsonl"), "--output is one file for all"),
    ],
)
def test_what_a_classifier_of_texts_does_not_take(
    aigc: Callable[..., Ending], said: Path, words: tuple[str, ...], message: str
) -> None:
    assert aigc("train", "said.yaml", "trainer.max_steps=1", "--out", "run", "--quiet").code == 0
    made = aigc("sample", "run", "--out", "names", *words)
    assert made.code == 2
    assert message in made.err
    assert not (said / "names").exists()


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
    assert "precision  f1      mistaken for" in made.out
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
