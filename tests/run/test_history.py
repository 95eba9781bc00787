"""`aigc run`: what it says of real runs, and that nothing in a run folder can make it fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aigc_cli.errors import InputError
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.folder import RunFolder
from aigc_cli.run.history import find_run, find_runs, list_runs, summary
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
CURVE = ((4, 20.0, 0.5), (8, 22.0, 0.7), (12, 21.0, 0.8))  # step, psnr_y, ssim_y


def write_run(
    path: Path, state: str = "finished", started: str = "2026-01-02T03:04:05+00:00", *changes: str
) -> RunFolder:
    """A run of edsr.yaml that was best at step 8 of 12, as training writes it."""
    folder = RunFolder(path)
    folder.create()
    folder.describe(load_recipe("edsr.yaml", changes))
    starts = json.loads(folder.command.read_text())
    starts[-1] |= {"time": started, "argv": ["/bin/aigc", "train", "edsr.yaml", "a b"]}
    folder.command.write_text(json.dumps(starts))
    best = None
    for step, psnr_y, ssim_y in CURVE:
        if best is None or psnr_y > best["value"]:
            best = {"metric": "psnr_y", "value": psnr_y, "step": step}
        folder.append({"event": "step", "step": step, "train/loss": 1.0})
        val = {"val/psnr_y": psnr_y, "val/ssim_y": ssim_y, "best": best}
        folder.append({"event": "val", "step": step, **val})
    if state == "running":
        folder.status("running", step=0, steps=12)
    else:
        folder.status(state, step=12, steps=12, exit=0, seconds=65.0, best=best)
    return folder


def test_a_real_run_is_listed_shown_and_compared(aigc: Aigc, here: Path) -> None:
    assert aigc("train", "edsr.yaml", "trainer.max_steps=4").code == 0
    assert aigc("train", "edsr.yaml", "--out", "other", "trainer.max_steps=4", "seed=4").code == 0
    (row,) = aigc("run", "ls", "--json").json["runs"]
    assert row["run"].startswith("runs/edsr/")
    assert (row["state"], row["step"], row["steps"]) == ("finished", 4, 4)
    assert (row["best"]["metric"], row["best"]["step"]) == ("psnr_y", 4)
    facts = aigc("run", "show", "edsr", "--json").json
    assert facts["run"] == row["run"]
    assert facts["recipe"]["trainer"]["max_steps"] == 4
    assert facts["validation"][-1]["psnr_y"] == row["best"]["value"]
    assert {"checkpoints/last.ckpt", "status.json"} <= {file["path"] for file in facts["files"]}
    assert "torch" in facts["environment"]["packages"]
    found = aigc("run", "compare", "edsr", "other", "--json").json
    assert found["recipe"] == [{"key": "seed", "values": {row["run"]: 3, "other": 4}}]


def test_ls_shows_the_newest_first(aigc: Aigc, here: Path) -> None:
    write_run(here / "runs/edsr/b", "finished", "2026-01-01T00:00:00+00:00")
    write_run(here / "runs/edsr/a", "stopped", "2026-03-01T00:00:00+00:00")
    write_run(here / "runs/c", "failed", "2026-02-01T00:00:00+00:00")
    assert [row["run"] for row in list_runs()] == ["runs/edsr/a", "runs/c", "runs/edsr/b"]
    lines = aigc("run", "ls").out.splitlines()
    assert lines[0].split() == ["run", "state", "step", "best", "started", "took"]
    assert lines[1] == ("runs/edsr/a  stopped   12    psnr_y 22.0000  2026-03-01 00:00  1m05s")


def test_without_runs_ls_is_empty(aigc: Aigc) -> None:
    assert aigc("run", "ls", "--json").json == {"ok": True, "runs": []}
    ending = aigc("run", "ls")
    assert (ending.code, ending.out) == (0, "")
    assert "no runs in runs" in ending.err


def test_ls_looks_into_another_folder(aigc: Aigc, here: Path) -> None:
    write_run(here / "elsewhere/deep/er/x")
    (row,) = aigc("run", "ls", "elsewhere", "--json").json["runs"]
    assert row["run"] == "elsewhere/deep/er/x"


def test_a_run_is_running_while_its_lock_is_held_and_killed_after(here: Path) -> None:
    folder = write_run(here / "runs/x", "running")
    folder.lock()
    row = summary(folder.path)
    assert (row["state"], row["step"], row["steps"]) == ("running", 12, 12)
    assert row["best"] == {"metric": "psnr_y", "value": 22.0, "step": 8}
    assert row["seconds"] > 0
    folder.unlock()
    assert summary(folder.path)["state"] == "killed"
    folder.lock()  # looking has not kept the lock
    folder.unlock()
    folder.lock_file.unlink()
    assert summary(folder.path)["state"] == "killed"


@pytest.mark.slow
def test_kill_9_shows_as_killed(child: Any, aigc: Aigc, here: Path) -> None:
    process = child("train", "edsr.yaml", "--out", "runs/x", "trainer.max_steps=100000")
    process.wait_for_step(here / "runs/x", 5)
    assert summary(here / "runs/x")["state"] == "running"
    process.process.kill()
    process.end()
    row = summary(here / "runs/x")
    assert row["state"] == "killed"
    assert row["step"] >= 5
    assert row["steps"] == 100_000
    assert row["best"]["metric"] == "psnr_y"


def test_a_run_without_status_is_unknown(here: Path) -> None:
    folder = write_run(here / "runs/x")
    folder.status_file.unlink()
    row = summary(folder.path)
    assert (row["state"], row["step"], row["steps"]) == ("unknown", 12, None)


JUNK = {
    "empty": b"",
    "half": b'{"state": "finis',
    "binary": b"\x00\xff\xfe",
    "list": b"[1, [2], null]",
    "text": b'"text"',
    "null": b"null",
    "types": b'{"state": 3, "step": "x", "steps": [], "best": {"metric": 1}, "metrics": {"a": 1}, '
    b'"event": "val", "val/psnr_y": {"a": 1}, "packages": 1, "gpus": {}, "trainer": [], "cwd": 1}',
    "numbers": b'{"step": NaN, "best": {"metric": "m", "value": Infinity, "step": NaN}}',
    "deep": b"[" * 20_000,
    "recipe": b"trainer: [&a 1, *a]\ndata: {kind: {deeper: {still: 1}}}\nmodel:\n",
    "starts": b'[{"time": 3, "argv": "x"}, {"argv": {}}]',
}


@pytest.mark.parametrize("name", [*JUNK, "a folder"])
@pytest.mark.parametrize("json_form", [[], ["--json"]])
def test_damaged_files_never_stop_it(
    aigc: Aigc, here: Path, name: str, json_form: list[str]
) -> None:
    write_run(here / "runs/whole")
    damaged = write_run(here / "runs/damaged")
    for file in (
        damaged.status_file,
        damaged.recipe,
        damaged.command,
        damaged.environment,
        damaged.metrics,
        damaged.evaluations,
    ):
        file.unlink(missing_ok=True)
        if name == "a folder":
            file.mkdir()
        else:
            file.write_bytes(JUNK[name])
    if name == "a folder":
        damaged.log.write_text("")
        assert aigc("run", "ls", *json_form).code == 0
        return
    for words in (["ls"], ["show", "runs/damaged"], ["compare", "runs/damaged", "runs/whole"]):
        ending = aigc("run", *words, *json_form)
        assert ending.code == 0, ending.err
        assert not json_form or ending.json["ok"]


def test_a_line_in_the_making_is_skipped(here: Path) -> None:
    folder = write_run(here / "runs/x", "running")
    with folder.metrics.open("a") as file:
        file.write('garbage\n{"event": "val", "step": 16, "val/ps')
    assert summary(folder.path)["step"] == 12


def test_a_run_is_named_by_path_latest_recipe_or_recipe_file(here: Path) -> None:
    write_run(here / "runs/edsr/old", "finished", "2026-01-01T00:00:00+00:00")
    new = write_run(here / "runs/edsr/new", "finished", "2026-02-01T00:00:00+00:00")
    assert (here / "runs/edsr/latest").is_symlink()
    for text in ("runs/edsr/latest", "runs/edsr", "edsr", "image/edsr", "edsr.yaml", "edsr/new"):
        assert find_run(text).resolve() == new.path
        assert find_run(text).name == "new"
    assert [path.name for path in find_runs()] == ["new", "old"]  # latest is no run of its own


def test_an_unknown_run_names_the_nearest(aigc: Aigc, here: Path) -> None:
    with pytest.raises(InputError, match="no such run") as none_at_all:
        find_run("edsr")
    assert none_at_all.value.hint == "none is here yet; train one with: aigc train RECIPE"
    write_run(here / "runs/edsr/x")
    ending = aigc("run", "show", "edsrr")
    assert ending.code == 2
    assert ending.err == "error: edsrr: there is no such run\nhint: did you mean 'edsr'?\n"


def test_show_says_what_a_person_asks_first(aigc: Aigc, here: Path) -> None:
    folder = write_run(here / "runs/x", "finished", "2026-01-02T03:04:05+00:00", "model.lr=2e-4")
    score = {"value": 21.5, "bicubic": 20.0, "n": 3, "protocol": "Y of BT.601"}
    row = {"data": "set5", "model": {"step": 8}, "metrics": {"psnr_y": score}}
    folder.evaluations.write_text(json.dumps(row) + "\n")
    text = aigc("run", "show", "runs/x").out
    for line in (
        "state:       finished",
        "step:        12",
        "best:        psnr_y 22.0000 at step 8",
        "command:     aigc train edsr.yaml 'a b'",
        "8     22.0000  0.7000  best",
        "8     set5  psnr_y  21.5000  20.0000  3  Y of BT.601",
    ):
        assert line in text.splitlines()
    assert "lr 0.0002" in text
    assert "accumulate" not in text  # as by default


def test_a_long_curve_is_thinned_but_keeps_its_ends_and_the_best(aigc: Aigc, here: Path) -> None:
    folder = write_run(here / "runs/x")
    for step in range(16, 4000, 4):
        folder.append({"event": "val", "step": step, "val/psnr_y": 10.0, "val/ssim_y": 0.1})
    text = aigc("run", "show", "runs/x").out
    table = text[text.index("\nvalidation\n") :].split("\n\n")[0].splitlines()
    steps = [line.split()[0] for line in table[3:]]
    assert steps[:2] == ["4", "8"]
    assert steps[-1] == "3,996"
    assert len(steps) == 13
    assert len(aigc("run", "show", "runs/x", "--json").json["validation"]) == 999


def test_compare_shows_only_what_differs(aigc: Aigc, here: Path) -> None:
    write_run(here / "runs/a")
    write_run(here / "runs/b", "stopped", "", "model.lr=2e-4", "trainer.clip_norm=1.0")
    found = aigc("run", "compare", "runs/a", "runs/b", "--json").json
    assert found["recipe"] == [
        {"key": "model.lr", "values": {"runs/a": 1e-3, "runs/b": 2e-4}},
        {"key": "trainer.clip_norm", "values": {"runs/a": None, "runs/b": 1.0}},
    ]
    results = {row["key"]: row["values"]["runs/a"] for row in found["results"]}
    assert results["best step"] == 8
    assert (results["psnr_y at best"], results["psnr_y at end"]) == (22.0, 21.0)
    assert (results["ssim_y at best"], results["ssim_y at end"]) == (0.7, 0.8)
    text = aigc("run", "compare", "runs/a", "runs/b").out.splitlines()
    assert [word for line in text for word in line.split()][:3] == ["recipe", "runs/a", "runs/b"]
    assert "model.lr           0.001   0.0002" in text


def test_compare_keeps_one_metric(aigc: Aigc, here: Path) -> None:
    write_run(here / "runs/a")
    write_run(here / "runs/b")
    ending = aigc("run", "compare", "runs/a", "runs/b", "--metric", "ssim_y")
    assert "ssim_y at best" in ending.out
    assert "psnr_y" not in ending.out
    assert "the recipes are equal" in ending.out
    ending = aigc("run", "compare", "runs/a", "runs/b", "--metric", "ssim")
    assert ending.code == 2
    assert "did you mean 'ssim_y'?" in ending.err


@pytest.mark.parametrize("names", [["runs/a"], ["runs/a", "runs/a"]])
def test_compare_needs_different_runs(aigc: Aigc, here: Path, names: list[str]) -> None:
    write_run(here / "runs/a")
    ending = aigc("run", "compare", *names)
    assert ending.code == 2
    assert "two or more different runs" in ending.err


def test_looking_at_runs_imports_no_torch(here: Path) -> None:
    write_run(here / "runs/a")
    write_run(here / "runs/b")
    code = (
        "import sys\nfrom aigc_cli.cli import invoke\n"
        "for words in ['run ls', 'run show runs/a', 'run compare runs/a runs/b']:\n"
        "    assert invoke(words.split()) == 0\n"
        "assert not {'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr


def test_looking_writes_nothing(aigc: Aigc, here: Path) -> None:
    write_run(here / "runs/a")
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    for words in (["ls"], ["show", "runs/a"]):
        assert aigc("run", *words).code == 0
    assert before == {path: path.stat().st_mtime_ns for path in here.rglob("*")}
