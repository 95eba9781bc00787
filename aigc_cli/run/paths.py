"""The run folder: where everything a training run writes has its place.

runs/<recipe>/<UTC time>-<4 hex of the recipe>/     (runs/<recipe>/latest points to the newest)
  recipe.yaml           every value of the recipe, defaults and overrides filled in
  command.json          arguments, folder and git commit it was started with, one entry each start
  environment.json      versions and hardware
  status.json           state, step, length in steps, exit code, seconds, best value
  metrics.jsonl         one row for each log and validation
  evaluations.jsonl     one row for each `aigc evaluate` of its checkpoints
  log.txt               all messages
  tensorboard/          the same metrics for TensorBoard
  previews/             pictures made while training
  checkpoints/          last.ckpt, best.ckpt
  run.lock              held by the process that trains

Only names are here, without torch, so that `aigc run ls` is instant; folder.py writes them.
"""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")


class RunPaths:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.recipe = path / "recipe.yaml"
        self.command = path / "command.json"
        self.environment = path / "environment.json"
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
