"""`aigc tune`: a search is a function of what was asked, however often it is killed."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from aigc_cli.errors import DivergedError
from aigc_cli.run import tune_trial
from aigc_cli.run.callbacks import Checkpoints
from aigc_cli.run.tune import JOURNAL, LOCK, Search
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
QUICK = (
    "trainer.max_steps=4", "trainer.validate_every=1", "trainer.checkpoint_every=1",
    "trainer.preview_every=100", "trainer.ema=null",
)  # fmt: skip
LR = "model.lr: {low: 1e-5, high: 0.1, log: true}\nmodel.num_features: {low: 2, high: 6, step: 2}"


@pytest.fixture
def space(here: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (here / "space.yaml").write_text(text)
        return Path("space.yaml")

    return write


class Killed(BaseException):
    """Ends a process as kill -9 does: nothing of ours handles it."""


def tuned(aigc: Aigc, *more: object) -> Any:
    ending = aigc("tune", "edsr.yaml", *QUICK, "--search", "space.yaml", "--json", *more)
    assert ending.code == 0, ending.err
    return ending.json


def seen(result: Any) -> list[tuple[Any, ...]]:
    """What must be the same of two searches."""
    return [(t["state"], t["set"], t["value"], t["step"]) for t in result["trials"]]


def test_the_best_recipe_trains_to_the_value_that_is_stated(aigc: Aigc, space, here) -> None:
    space(LR)
    result = tuned(aigc, "--trials", 3, "--out", "found", "--pruner", "none")
    first, *others = result["trials"]
    assert first["own"]
    assert first["set"] == {"model.lr": "0.001", "model.num_features": "4"}
    assert all(1e-5 <= float(t["set"]["model.lr"]) <= 0.1 for t in others)
    best = max(result["trials"], key=lambda t: t["value"])
    assert result["best"] == best
    assert (result["metric"], result["direction"]) == ("psnr_y", "max")
    assert aigc("train", "found/best.yaml", "--out", "again", "--quiet").code == 0
    status = json.loads((here / "again/status.json").read_text())
    assert status["best"]["value"] == best["value"]
    assert (here / "found/best.yaml").read_text().startswith("# ")
    ET.fromstring((here / "found/trials.svg").read_text())


def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    aigc: Aigc, space, here, monkeypatch: pytest.MonkeyPatch
) -> None:
    space(LR)
    asked = ("--trials", 3, "--pruner", "none")
    whole = tuned(aigc, *asked, "--out", "whole")
    real, saved = Checkpoints.save, []

    def save(*args: Any) -> None:
        real(*args)
        saved.append(1)
        if len(saved) == 7:
            raise Killed

    words = ["edsr.yaml", *QUICK, "--search", "space.yaml", *asked, "--out", "cut"]
    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(Killed):
        aigc("tune", *words)
    monkeypatch.setattr(Checkpoints, "save", real)
    with (here / "cut" / JOURNAL).open("ab") as journal:
        journal.write(b'{"op_code": 6, "wor')  # a write that a kill has cut
    ending = aigc("tune", *words, "--continue")
    assert ending.code == 0, ending.err
    assert "trial 1: goes on from step 3" in ending.err
    assert "trial 0" not in ending.err
    assert seen(json.loads((here / "cut/result.json").read_text())) == seen(whole)


def test_what_is_far_behind_is_stopped_and_what_fails_does_not_end_the_search(
    aigc: Aigc, space, here, monkeypatch: pytest.MonkeyPatch
) -> None:
    space("model.lr: {choices: [1e-3, 2e-3, 1e-9, 4e-3, 5e-3]}")
    real = tune_trial.train

    def train(recipe: Any, **more: Any) -> Any:
        if recipe.model.lr == 4e-3:
            raise DivergedError("loss became NaN or Inf in step 2")
        if recipe.model.lr == 5e-3:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
        return real(recipe, **more)

    monkeypatch.setattr(tune_trial, "train", train)
    result = tuned(aigc, "--trials", 9, "--sampler", "grid", "--out", "found")
    assert len(result["trials"]) == 6, "the grid ends, and the recipe is a trial of its own"
    by_lr = {t["set"]["model.lr"]: t for t in result["trials"]}
    assert by_lr["0.004"]["state"] == "failed"
    assert by_lr["0.004"]["reason"] == "loss became NaN or Inf in step 2"
    assert by_lr["0.005"]["reason"].startswith("RuntimeError: mat1 and mat2")
    stopped = by_lr["1.0e-09"]
    assert (stopped["state"], stopped["step"]) == ("stopped", 1)
    twins = [t for t in result["trials"] if "same_as" in t]
    assert [(t["same_as"], t["value"]) for t in twins] == [(0, result["trials"][0]["value"])]


def test_a_trial_that_is_killed_each_time_has_failed(aigc: Aigc, space, here) -> None:
    space("model.lr: {choices: [1e-3, 2e-3]}")
    tuned(aigc, "--trials", 1, "--out", "found")
    study = Search.read(Path("found")).open(1)
    trial = study.ask()
    trial.suggest_categorical("model.lr", ("0.001", "0.002"))
    trial.set_user_attr("starts", [0, 0, 0])
    result = tuned(aigc, "--trials", 2, "--out", "found", "--continue")
    assert result["trials"][1]["reason"] == "was killed 3 times behind step 0"


def test_the_table_has_the_best_trial_first_and_fits_a_terminal(
    aigc: Aigc, space, here, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aigc_cli.cli.tune import _text

    row = {"state": "finished", "step": 700, "run": "r", "value": 1.5}
    keys = ("model.lr", "trainer.schedule.name", "model.latent_dim", "trainer.ema")
    trials: list[dict[str, Any]] = [
        {**row, "trial": n, "value": 3.0 - n, "set": dict.fromkeys(keys, "0.0012345")}
        for n in range(3)
    ]
    trials[1] |= {"state": "failed", "value": None, "reason": "out of memory: " + "x" * 90}
    result = {"metric": "elbo", "direction": "min", "trials": trials, "best": trials[2],
              "recipe": "best.yaml"}  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = re.sub(r"\x1b\[[\d;]*m", "", _text(result)).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:4]] == ["2", "0", "1"]
    assert lines[-2:] == ["best: trial 2, elbo 1.0000", "best.yaml"]


BAD = [
    ("", "space.yaml: the search space is empty"),
    ("- 1", "space.yaml: the search space is no mapping of keys"),
    ("model.lrr: {low: 1, high: 2}", "space.yaml:1: model.lrr: the recipe has no such key, "
     "did you mean 'model.lr'?"),
    ("model: {lr: {low: 1, high: 2}}", "model: is a section of the recipe, name its keys"),
    ("seed: 3", "seed: expected a range or choices, got 3"),
    ("model.lr: {low: 1}", "model.lr.high: this key is required"),
    ("model.lr: {low: x, high: 2}", 'model.lr.low: expected a number, got "x"'),
    ("model.lr: {low: 2, high: 1}", "space.yaml:1: model.lr: low (2) must be below high (1)"),
    ("model.lr: {low: 0, high: 1, log: true}", "log needs a low above 0, not 0"),
    ("model.lr: {low: 1e-3, high: 1, log: true, step: 1}", "log and step contradict each other"),
    ("model.lr: {low: 0.1, high: 1, step: 0.4}", "no number of steps of 0.4 leads from low to"),
    ("model.lr: {low: 0.1, high: 1, setp: 2}", "model.lr.setp: unknown key, did you mean 'step'?"),
    ("seed: 1\nmodel.num_features: {low: 0.5, high: 2}", "space.yaml:2: model.num_features: takes "
     "whole numbers, and low is 0.5"),
    ("model.num_features: {low: 0, high: 2}", "space.yaml:1: model.num_features: 0 is out of"),
    ("trainer.precision: {low: 0, high: 2}", "of which there is no range"),
    ("trainer.precision: {choices: [fp32, fp33]}", "did you mean 'fp32'?"),
    ("seed: {choices: [1]}", "seed.choices"),
    ("seed: {choices: [1, 1]}", "seed: a choice stands there twice"),
    ("trainer.max_epochs: {choices: [1, 2]}", "give exactly one of max_steps and max_epochs"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "told"), BAD, ids=[told for _, told in BAD])
def test_a_mistake_in_the_space_is_one_sentence_with_its_line(
    aigc: Aigc, space, text: str, told: str
) -> None:
    space(text)
    ending = aigc("tune", "edsr.yaml", "--search", "space.yaml", "--trials", 1)
    assert ending.code == 2
    assert told in ending.err


def test_other_mistakes_are_told_before_anything_is_trained(aigc: Aigc, space, here) -> None:
    def told(*words: object, code: int = 2) -> str:
        ending = aigc("tune", "edsr.yaml", *QUICK, "--search", "space.yaml", *words)
        assert ending.code == code, ending.err
        return ending.err

    assert "--search space.yaml: no such file" in told()
    space("model.lr: {low: 1e-4, high: 1e-3}")
    assert "needs an end of values, and model.lr has a range" in told("--sampler", "grid")
    assert "there is no search to continue" in told("--out", "found", "--continue")
    assert "set trainer.devices=1" in told("trainer.devices=2", "trainer.device=cpu")
    (here / "own").mkdir()
    (here / "own/letter.txt").write_text("mine")
    assert "holds other things" in told("--out", "own", "--overwrite")
    assert (here / "own/letter.txt").read_text() == "mine"
    assert not (here / "runs").exists()


def test_a_search_is_continued_only_as_it_was_begun(aigc: Aigc, space, here) -> None:
    space("model.lr: {choices: [1e-3, 2e-3]}")
    tuned(aigc, "--trials", 1, "--out", "found")
    words = ("tune", "edsr.yaml", *QUICK, "--search", "space.yaml", "--out", "found")
    assert "already holds a search" in aigc(*words).err
    other = aigc(*words, "model.num_blocks=2", "--seed", 3, "--continue")
    assert (other.code, "another recipe and seed" in other.err) == (2, True)
    with FileLock(here / "found" / LOCK):
        assert "another search is running here" in aigc(*words, "--continue").err
    assert aigc(*words, "--trials", 1, "--overwrite", "--quiet").code == 0


def test_without_optuna_it_says_how_to_get_it(aigc: Aigc, space, monkeypatch) -> None:
    space("model.lr: {choices: [1e-3, 2e-3]}")
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else real(name, *a)
    )
    ending = aigc("tune", "edsr.yaml", "--search", "space.yaml")
    assert (ending.code, 'pip install "aigc-cli[tune]"' in ending.err) == (5, True)
