"""A modality is new files only: tunes, in tests/plugin, do all that images and texts do."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from aigc_cli.recipe.example import example_recipe
from tests.run.conftest import PLUGIN, Child, Ending, assert_same, load

Aigc = Callable[..., Ending]
Start = Callable[..., Child]


@pytest.fixture
def recipe(here: Path) -> str:
    found = example_recipe("tune_vae", here / "data").as_dict()
    (here / "tune.yaml").write_text(yaml.safe_dump(found))
    return "tune.yaml"


def test_it_trains_and_resumes_exactly(aigc: Aigc, recipe: str, here: Path) -> None:
    assert aigc("train", recipe, "--out", "whole").code == 0
    assert aigc("train", recipe, "--out", "cut", "trainer.max_steps=1").code == 0
    ending = aigc("train", recipe, "--resume", "cut")
    assert ending.code == 0, ending.err
    whole, cut = (load(here / f"{name}/checkpoints/last.ckpt") for name in ("whole", "cut"))
    assert_same(whole["weights"], cut["weights"], "weights")


def test_a_killed_run_goes_on(child: Start, aigc: Aigc, recipe: str, here: Path) -> None:
    long = ("trainer.max_steps=100000", "trainer.validate_every=100000", "--out", "run")
    running = child("train", recipe, *long)
    running.wait_for_step(here / "run", 3)
    running.process.kill()
    running.end()
    step = load(here / "run/checkpoints/last.ckpt")["step"]
    ending = aigc("train", recipe, "--resume", "run", f"trainer.max_steps={step + 2}")
    assert ending.code == 0, ending.err
    assert load(here / "run/checkpoints/last.ckpt")["step"] == step + 2


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(
    child: Start, aigc: Aigc, recipe: str, here: Path
) -> None:
    assert aigc("train", recipe, "--out", "one").code == 0
    assert child("train", recipe, "--out", "two", "--devices", 2).end().code == 0
    one, two = (load(here / f"{name}/checkpoints/last.ckpt")["weights"] for name in ("one", "two"))
    assert all(one[name].allclose(two[name], atol=1e-4) for name in one)


def test_it_samples_and_interpolates(aigc: Aigc, recipe: str, here: Path) -> None:
    assert aigc("train", recipe, "--out", "run").code == 0
    ending = aigc("sample", "run", "-n", 3, "--out", "made", "--json")
    assert ending.code == 0, ending.err
    assert [item["path"] for item in ending.json["items"]] == [
        "sample-00000.tune", "sample-00001.tune", "sample-00002.tune", "sheet.txt",
    ]  # fmt: skip
    notes = [int(word) for word in (here / "made/sample-00001.tune").read_text().split()]
    assert len(notes) == 8
    ending = aigc("sample", "run", "--interpolate", 4, "-n", 2, "--out", "way")
    assert ending.code == 0, ending.err
    ends = ("between-00000.tune", "between-00004.tune")
    for end, sample in zip(ends, ("sample-00000.tune", "sample-00001.tune"), strict=True):
        assert (here / "way" / end).read_text() == (here / "made" / sample).read_text()


def test_previews_are_what_sample_makes(aigc: Aigc, recipe: str, here: Path) -> None:
    assert aigc("train", recipe, "--out", "run").code == 0
    assert aigc("sample", "run/checkpoints/last.ckpt", "--out", "made").code == 0
    last = max((here / "run/previews").iterdir())
    for file in last.glob("*.tune"):
        assert file.read_bytes() == (here / "made" / file.name).read_bytes()
    assert (last / "sheet.txt").read_text().count("\n") == 4


def test_its_data_is_shown_and_checked(aigc: Aigc, recipe: str, here: Path) -> None:
    shown = aigc("data", "show", recipe)
    assert shown.code == 0, shown.err
    assert "tunes  9" in shown.out
    assert "notes     int64 2 x 8" in shown.out
    (here / "twice.tune").write_text("60 62\n60 62\n")
    checked = aigc("data", "check", "twice.tune")
    assert checked.code == 0, checked.err
    assert "warning: data: 1 tunes stand there before" in checked.out
    (here / "bad.tune").write_text("60 nonsense\n")
    ending = aigc("train", recipe, "data.train=bad.tune")
    assert ending.code == 2
    assert "bad.tune:1: no tune" in ending.err


def test_recipe_new_and_plan_know_it(aigc: Aigc, recipe: str, here: Path) -> None:
    new = aigc(
        "recipe", "new", "--family", "tune_vae", "--data", "data/scales.tune", "-o", "own.yaml"
    )
    assert new.code == 0, new.err
    assert yaml.safe_load((here / "own.yaml").read_text())["data"]["length"] == 8
    planned = aigc("train", "own.yaml", "--dry-run")
    assert planned.code == 0, planned.err
    listed = aigc("recipe", "ls", "--json")
    assert "tune_vae" in listed.out


SET_METRIC = '''"""How much wider the range of notes is than in real tunes."""

from aigc_cli.metrics._metric import SetMetric


class Metric(SetMetric):
    """Range of notes, divided by the real range."""

    of = "set"
    higher_is_better = True
    protocol = "highest minus lowest note, relative to real tunes"

    def compute(self, side):
        ranges = []
        for things in (side.things, side.real_things):
            notes = [int(n) for tune in things.read(range(len(things))) for n in tune]
            ranges.append(max(notes) - min(notes))
        return ranges[0] / ranges[1]
'''


def test_it_is_evaluated_by_metrics_of_its_own(
    aigc: Aigc, recipe: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one that stands in AIGC_PATH, and one that is written into another folder of it."""
    (here / "more/metrics/tune").mkdir(parents=True)
    (here / "more/metrics/tune/breadth.py").write_text(SET_METRIC)
    monkeypatch.setenv("AIGC_PATH", f"{PLUGIN}:{here / 'more'}")
    assert aigc("train", recipe, "--out", "run").code == 0
    assert aigc("sample", "run", "-n", 3, "--out", "made").code == 0
    listed = aigc("evaluate", "--metric", "list", "--json").json["metrics"]
    own = [row["metric"] for row in listed if row["modality"] == "tune"]
    assert own == ["leaps", "breadth"]

    files = sorted((here / "made").glob("sample-*.tune"))
    notes = [[int(word) for word in file.read_text().split()] for file in files]
    steps = [sum(abs(b - a) for a, b in pairwise(m)) / (len(m) - 1) for m in notes]
    read = aigc("evaluate", "--generated", "made", "-m", "leaps", "--json")
    assert read.code == 0, read.err
    assert read.json["metrics"]["leaps"]["value"] == pytest.approx(sum(steps) / 3, abs=1e-6)
    assert [item["name"] for item in read.json["items"]] == [file.stem for file in files]
    drawn = aigc("evaluate", "run", "-m", "leaps", "--limit", 3, "--json").json["metrics"]["leaps"]
    assert drawn["value"] == pytest.approx(sum(steps) / 3, abs=1e-6)

    words = ("-m", "leaps,breadth,nats", "--count", 3, "--require", "breadth>=0", "--json")
    whole = aigc("evaluate", "run", *words)
    assert whole.code == 0, whole.err
    assert list(whole.json["metrics"]) == ["nats", "breadth", "leaps"]
    beside = ("--reference", "data/scales.tune", "-m", "breadth", "--json")
    value = aigc("evaluate", "--generated", "made", *beside).json["metrics"]["breadth"]["value"]
    all_notes = [n for tune in notes for n in tune]
    assert value == pytest.approx((max(all_notes) - min(all_notes)) / 18, abs=1e-6)
    wrong = aigc("evaluate", "run", "-m", "fid")
    assert wrong.code == 2
    assert "fid is not for this family" in wrong.err
