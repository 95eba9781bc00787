"""A run that is stopped, or whose surroundings fail, loses nothing and can be continued."""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aigc_cli.errors import Interrupted
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.train import train
from tests.run.conftest import Ending, assert_same_run, load, paint, rows_of

Aigc = Callable[..., Ending]


def signal_in_step(step: int) -> Callable[[dict[str, Any]], None]:
    """An event handler that sends SIGTERM to this process when the step is done."""

    def emit(event: dict[str, Any]) -> None:
        if event["event"] == "tick" and event["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    return emit


@pytest.mark.parametrize("step", [3, 4, 8], ids=["between", "validates", "last"])
@pytest.mark.parametrize("family", ["edsr", "tiny_gan"])
def test_stopped_in_any_step_and_resumed_equals_uninterrupted(
    aigc: Aigc, here: Path, family: str, step: int
) -> None:
    assert aigc("train", f"{family}.yaml", "--out", "whole").code == 0
    with pytest.raises(Interrupted, match=f"after step {step}; the state is saved"):
        train(load_recipe(f"{family}.yaml"), out=Path("cut"), emit=signal_in_step(step))
    assert load(here / "cut/checkpoints/last.ckpt")["step"] == step
    assert aigc("train", f"{family}.yaml", "--out", "cut", "--resume", "auto").code == 0
    assert_same_run(here / "whole", here / "cut")
    best = [load(here / run / "checkpoints/best.ckpt")["step"] for run in ("whole", "cut")]
    assert best[0] == best[1]
    assert [r for r in rows_of(here / "whole") if r["event"] == "val"] == [
        r for r in rows_of(here / "cut") if r["event"] == "val"
    ]


def test_a_kill_between_last_and_best_is_repaired(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run", "trainer.max_steps=4").code == 0
    last, best = (here / f"run/checkpoints/{name}.ckpt" for name in ("last", "best"))
    assert load(last)["best"]["step"] == 4
    best.unlink()
    assert aigc("train", "--resume", "run").code == 0
    assert best.read_bytes() == last.read_bytes()


def test_a_run_that_is_over_is_left_as_it_is(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "--out", "run").code == 0
    before = (here / "run/checkpoints/last.ckpt").read_bytes()
    ending = aigc("train", "edsr.yaml", "--out", "run", "--resume", "auto")
    assert ending.code == 0
    assert "finished after step 8" in ending.err
    assert (here / "run/checkpoints/last.ckpt").read_bytes() == before


def once(condition: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something in another thread as soon as a condition holds."""

    def wait() -> None:
        deadline = time.monotonic() + 60
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


LONG = ["trainer.max_steps=1000000", "trainer.validate_every=1000000", "--max-time", "60s"]


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_deleted_during_training_end_with_their_name(
    aigc: Aigc, here: Path, workers: int
) -> None:
    paint(here / "photos", 99)  # so that most are not read yet
    words = ["data.cache=off", f"trainer.workers={workers}", "--out", "run", *LONG]

    def delete() -> None:
        for photo in (here / "photos").iterdir():
            photo.unlink()

    watch = once(lambda: len(rows_of(here / "run")) >= 3, delete)
    ending = aigc("train", "edsr.yaml", *words)
    watch.join()
    assert ending.code == 3, ending.err
    error = [line for line in ending.err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    assert error[0].startswith("error: image changed during the run: photo ")
    assert "Traceback" not in ending.err
    assert load(here / "run/checkpoints/last.ckpt")["step"] >= 2
    assert '"state": "failed"' in (here / "run/status.json").read_text()


# Torch's signal handler may raise while a batch is received, which leaves that socket to the
# garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_killed_worker_is_a_failed_run(aigc: Aigc, here: Path) -> None:
    def kill() -> None:
        for worker in multiprocessing.active_children():
            worker.kill()

    watch = once(lambda: len(rows_of(here / "run")) >= 3, kill)
    ending = aigc("train", "edsr.yaml", "trainer.workers=1", "--out", "run", *LONG)
    watch.join()
    assert ending.code == 3, ending.err
    assert "error: a process that prepares batches was killed from outside" in ending.err
    assert "hint: lower trainer.workers and continue with --resume" in ending.err
