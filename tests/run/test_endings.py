"""Each kind of ending of a run: what is said, what is kept, and how it goes on."""

from __future__ import annotations

import json
import re
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_cli.errors import DiskFullError, Interrupted
from aigc_cli.models.image.edsr import Model
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.checkpoint import save_checkpoint
from aigc_cli.run.train import train
from aigc_cli.run.worth import far_worse, verdict
from tests.run.conftest import Child, Ending, assert_same_run, load, rows_of

Aigc = Callable[..., Ending]
Start = Callable[..., Child]


def signal_at(phase: str) -> Callable[[dict[str, Any]], None]:
    """An event handler that sends SIGTERM when a phase begins, after step 4 or later."""
    steps = [0]

    def emit(event: dict[str, Any]) -> None:
        steps.append(event.get("step", steps[-1]))
        if event["event"] == "phase" and event["phase"] == phase and steps[-1] >= 4:
            signal.raise_signal(signal.SIGTERM)

    return emit


@pytest.mark.parametrize("phase", ["validation", "preview"])
def test_a_signal_in_a_long_phase_acts_at_once_and_the_phase_comes_after_the_resume(
    aigc: Aigc, here: Path, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert aigc("train", "edsr.yaml", "--out", "whole").code == 0
    judged: list[int] = []
    evaluate_batch = Model.evaluate_batch

    def counted(self: Model, batch: Any) -> Any:
        judged.append(self.step)
        return evaluate_batch(self, batch)

    monkeypatch.setattr(Model, "evaluate_batch", counted)
    with pytest.raises(Interrupted, match=r"after step [48]; the state is saved") as caught:
        train(load_recipe("edsr.yaml"), out=Path("cut"), emit=signal_at(phase))
    assert caught.value.exit_code == 143
    assert caught.value.hint == "continue with: aigc train --resume cut"
    step = 4 if phase == "validation" else 8
    state = load(here / "cut/checkpoints/last.ckpt")
    assert (state["step"], state["pending"][0]) == (step, phase)
    assert judged.count(4) == (0 if phase == "validation" else 2), "no item of it was judged"
    status = json.loads((here / "cut/status.json").read_text())
    assert (status["state"], status["exit"]) == ("interrupted", 143)

    assert aigc("train", "--resume", "cut").code == 0
    assert_same_run(here / "whole", here / "cut")
    one, other = (
        [r for r in rows_of(here / run) if r["event"] == "val"] for run in ("whole", "cut")
    )
    assert one == other
    previews = [sorted(p.name for p in (here / run / "previews").iterdir()) for run in
                ("whole", "cut")]  # fmt: skip
    assert previews[0] == previews[1]


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.15, 0.6, 2.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_start_up_is_one_line(
    child: Start, here: Path, number: signal.Signals, after_s: float
) -> None:
    import time

    run = child("train", "edsr.yaml", "--out", "run", "trainer.max_steps=100000")
    time.sleep(after_s)
    run.signal(number)
    ending = run.end()
    assert ending.code == 128 + number
    assert "Traceback" not in ending.err
    assert ending.err.strip()


def test_before_the_first_checkpoint_the_hint_is_a_command_that_works(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(event: dict[str, Any]) -> None:
        if event["event"] == "start":
            raise KeyboardInterrupt  # as kill -9 would: nothing is saved

    words = ["train", "edsr.yaml", "--out", "a run", "trainer.max_steps=1"]
    monkeypatch.setattr("sys.argv", ["aigc", *words])
    with pytest.raises(KeyboardInterrupt):
        train(load_recipe("edsr.yaml", ["trainer.max_steps=1"]), out=Path("a run"), emit=killed)
    assert '"state": "interrupted"' in (here / "a run/status.json").read_text()
    ending = aigc("train", "--resume", "a run")
    assert ending.code == 2
    found = re.search(r"nothing was saved yet; start again with: aigc (.*)", ending.err)
    assert found is not None, ending.err
    assert aigc(*shlex.split(found[1])).code == 0


def test_changed_data_is_refused_and_accepted_when_asked(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=2").code == 0
    (here / "photos").rename(here / "elsewhere")
    moved = ["data.train=elsewhere"]
    assert aigc("train", "--resume", "run", *moved).code == 2, "another recipe, not other data"
    (here / "elsewhere").rename(here / "photos")
    (here / "photos/photo 03.png").unlink()
    ending = aigc("train", "--resume", "run", "trainer.max_steps=4")
    assert ending.code == 2
    assert "the data have changed since this checkpoint was written" in ending.err
    assert "--accept-changed-data" in ending.err
    words = ["--accept-changed-data", "trainer.max_steps=4"]
    ending = aigc("train", "--resume", "run", *words)
    assert ending.code == 0, ending.err
    assert "warning: continuing on changed data" in ending.err
    assert "continuing on changed data" in (here / "run/log.txt").read_text()


def test_a_run_that_ends_far_worse_says_so_or_fails(aigc: Aigc, here: Path) -> None:
    wild = ["model.lr=1", "trainer.max_steps=8"]
    ending = aigc("train", "edsr.yaml", "--out", "warned", *wild)
    assert ending.code == 0
    assert "warning: the run ends" in ending.err
    assert "psnr_y is" in ending.err
    ending = aigc("train", "edsr.yaml", "--out", "failed", *wild, "trainer.on_worse=fail")
    assert ending.code == 3
    assert "error: the run ends" in ending.err
    assert '"state": "failed"' in (here / "failed/status.json").read_text()
    assert load(here / "failed/checkpoints/last.ckpt")["step"] == 8


@pytest.mark.parametrize(
    ("value", "other", "direction", "worse"),
    [
        (4.95, 28.1, "max", True),
        (20.0, 28.1, "max", False),
        (3.1, 2.0, "min", True),
        (2.9, 2.0, "min", False),
        (float("nan"), 2.0, "min", True),
        (5.0, float("nan"), "min", False),
        (5.0, 0.0, "min", False),
        (-4.0, -2.0, "max", True),
    ],
)
def test_far_worse_is_by_more_than_half(
    value: float, other: float, direction: Any, worse: bool
) -> None:
    assert far_worse(value, other, direction) == worse
    said = verdict("m", direction, {"": value, "nothing": other}, None)
    assert (said is not None) == worse


def test_health_warnings_are_told_at_once_and_counted(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "health", lambda self, means: ["odd"] if self.step > 2 else [])
    ending = aigc("train", "edsr.yaml", "--out", "run", "--json")
    events = [json.loads(line) for line in ending.out.splitlines()]
    warned = [e for e in events if e["event"] == "warning" and e.get("health")]
    assert [w["message"] for w in warned] == ["step 3: odd"]
    assert events[-1]["warnings"] == {"odd": 6}
    assert "odd in 6 rows of the log" in (here / "run/log.txt").read_text()


RESUMED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no average": (lambda s: s.update(ema=None), "it has no moving average, and trainer.ema is"),
    "no optimizer": (lambda s: s.update(optimizers=[]), r"its optimizers are of \[\] weights"),
    "a weight less": (
        lambda s: s["optimizers"][0]["param_groups"][0]["params"].pop(),
        "its optimizers are of",
    ),
    "pending is odd": (lambda s: s.update(pending=["lunch"]), "'pending.0' is 'lunch'"),
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_checkpoint_that_was_changed_is_refused_on_resume(
    aigc: Aigc, here: Path, case: str
) -> None:
    change, said = RESUMED[case]
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=1").code == 0
    last = here / "run/checkpoints/last.ckpt"
    (here / "run/checkpoints/best.ckpt").unlink()
    state = load(last)
    change(state)
    save_checkpoint(state, last)
    ending = aigc("train", "--resume", "run", "trainer.max_steps=2")
    assert ending.code == 2, ending.err
    assert re.search(said, ending.err), ending.err


@pytest.mark.parametrize(
    "words", [["train"], ["plan"], ["train", "--dry-run"]], ids=["train", "plan", "dry-run"]
)
def test_exhausted_memory_is_said_with_the_size_and_what_to_make_smaller(
    aigc: Aigc, here: Path, words: list[str]
) -> None:
    ending = aigc(*words, "tiny_gan.yaml", "model.hidden_dim=10000000000000")
    assert ending.code == 3, ending.err
    assert re.search(r"error: out of memory: .* asked for", ending.err), ending.err
    assert "hint: make the network smaller" in ending.err


def test_exhausted_memory_in_a_step_names_the_batch(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(self: Model, batch: Any) -> Any:
        return {"loss": torch.empty(10**14).sum()}

    monkeypatch.setattr(Model, "loss", greedy)
    ending = aigc("train", "edsr.yaml", "--out", "run")
    assert ending.code == 3, ending.err
    assert "out of memory: 400,000.0 GB were asked for at once" in ending.err
    assert "hint: lower trainer.global_batch, or make the network or the items" in ending.err
    assert '"exit": 3' in (here / "run/status.json").read_text()


def test_an_ending_is_written_down_on_a_full_disk(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(event: dict[str, Any]) -> None:
        if event["event"] == "tick" and event["step"] == 3:
            monkeypatch.setattr("aigc_cli.run.folder.write_bytes", no_space)
            raise DiskFullError("no space left")

    def no_space(path: Path, data: bytes) -> None:
        raise DiskFullError(f"no space left to write {path}")

    with pytest.raises(DiskFullError):
        train(load_recipe("edsr.yaml"), out=Path("run"), emit=full)
    status = json.loads((here / "run/status.json").read_text())
    assert (status["state"], status["exit"], status["step"]) == ("failed", 3, 3)


@pytest.mark.parametrize("command", ["sample", "evaluate"])
def test_exhausted_memory_afterwards_is_said_with_the_size(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from aigc_cli.nn.edsr import EDSR

    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=1").code == 0
    monkeypatch.setattr(EDSR, "forward", lambda self, low: torch.empty(10**14))
    ending = aigc(command, "run")
    assert ending.code == 3, ending.err
    assert "out of memory: 400,000.0 GB were asked for at once" in ending.err
    assert "hint: make fewer at once, or of a smaller size" in ending.err
