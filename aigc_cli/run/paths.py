"""The run folder: where everything a training run writes has its place.

runs/<recipe>/<UTC time>-<4 hex of the recipe>/     (runs/<recipe>/latest points to the newest)
  recipe.yaml           every value of the recipe, defaults and overrides filled in
  command.json          arguments, folder and git commit it was started with, one entry each start
  environment.json      versions and hardware
  data.json             what was found in the data, part by part
  status.json           state, step, length in steps, exit code, seconds, best value
  metrics.jsonl         one row for each log and validation
  evaluations.jsonl     one row for each `aigc evaluate` of its checkpoints
  log.txt               all messages
  tensorboard/          the same metrics for TensorBoard
  wandb/, mlflow.db     and for the trackers of trainer.loggers; trackers.json: what these have got
  previews/             images made while training
  report.html           all of this on one page, written at every end
  checkpoints/          last.ckpt, best.ckpt
  run.lock              held by the process that trains
  run.holder            who that is, or was

Only names are here, without torch, so that `aigc run ls` and a wrong name are instant; folder.py
writes them.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

from aigc_cli.errors import CheckpointError, InputError, did_you_mean
from aigc_cli.registry import recipes

RUNS = Path("runs")


class RunPaths:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.command = path / "command.json"
        self.environment = path / "environment.json"
        self.data = path / "data.json"
        self.status_file = path / "status.json"
        self.metrics = path / "metrics.jsonl"
        self.evaluations = path / "evaluations.jsonl"
        self.log = path / "log.txt"
        self.tensorboard = path / "tensorboard"
        self.previews = path / "previews"
        self.checkpoints = path / "checkpoints"
        self.last = self.checkpoints / "last.ckpt"
        self.best = self.checkpoints / "best.ckpt"
        self.lock_file = path / "run.lock"
        self.holder = path / "run.holder"


def is_run(path: Path) -> bool:
    """Whether a training run of ours wrote there."""
    run = RunPaths(path)
    return any(map(os.path.isfile, (run.status_file, run.recipe, run.metrics)))


def way_on(folder: RunPaths) -> str | None:
    """The command with which a run that ended early goes on: from its checkpoint, or, before the
    first one, anew; None where it is no run.
    """
    if folder.last.exists() or folder.best.exists():
        return f"continue with: aigc train --resume {shlex.quote(str(folder.path))}"
    try:
        argv = json.loads(folder.command.read_text())[-1]["argv"]
        words = [str(word) for word in argv[1:]]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if "--overwrite" not in words and any(word.startswith("--out") for word in words):
        words.append("--overwrite")
    return f"nothing was saved yet; start again with: {shlex.join(['aigc', *words])}"


def find_checkpoint(text: str | Path) -> Path:
    """The checkpoint a user means: a file, a run folder (best, else last), a recipe's folder of
    runs, or a model of the catalogue.

    Raises:
        InputError: nothing of the kind is there, or an encoder. MissingError: a model that was
            not got yet.
    """
    path = Path(text)
    if path.is_file():
        return path
    if _checkpoint_in(path) is None and (RUNS / path).is_dir():
        path = RUNS / path  # also where a folder of data has that name
    if not path.exists():
        from aigc_cli.catalog.weights import find_model, is_model

        if is_model(str(text)):
            found = find_model(str(text))
            if found.is_dir():
                raise InputError(
                    f"{text} is an encoder, which makes vectors and is neither sampled nor scored",
                    hint="it is for metrics, `aigc augment features --with`, and init_from",
                )
            return found
        raise InputError(f"{text}: there is no such run or checkpoint", hint=_nearest(str(text)))
    if checkpoint := _checkpoint_in(path):
        return checkpoint
    raise CheckpointError(
        f"{text}: no checkpoint in this folder",
        hint=way_on(RunPaths(path)) or "expected checkpoints/best.ckpt or last.ckpt",
    )


def _nearest(text: str) -> str:
    """The hint for a run that is nowhere: a folder of runs, a model or a recipe of such a name."""
    from aigc_cli.catalog.weights import models

    runs = [path.name for path in RUNS.iterdir() if path.is_dir()] if RUNS.is_dir() else []
    known = [*runs, *(name for name, _ in models()), *recipes()]
    name, _, rest = text.removeprefix(f"{RUNS}/").partition("/")
    hint = "" if rest and name in runs else did_you_mean(name, known)
    if hint.startswith("did"):
        return hint
    return (
        "see what there is: aigc run ls"
        if runs
        else "none is here yet; train one with: aigc train RECIPE"
    )


def _checkpoint_in(path: Path) -> Path | None:
    """The best checkpoint, else the last, of a run or of the latest in a folder of runs."""
    runs = (RunPaths(path), RunPaths(path / "latest"))
    files = (file for run in runs for file in (run.best, run.last))
    return next((file for file in files if os.path.isfile(file)), None)
