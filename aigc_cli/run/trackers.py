"""Trackers that `trainer.loggers` names, beside TensorBoard: each follows metrics.jsonl.

A tracker is sent the rows of metrics.jsonl in order, each once. What it has got is in trackers.json
of the run folder, so a resumed run goes on in the same run of the tracker, and what a tracker
missed, because a server was down or it was named later, is sent at the next start. Nothing leaves
the machine unless the user's own environment says so (WANDB_MODE, MLFLOW_TRACKING_URI).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from aigc_cli.errors import AigcError, MissingError, RunError
from aigc_cli.recipe.diff import flat
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.folder import RunFolder, write_text
from aigc_cli.run.progress import Emit

Row = Mapping[str, Any]
Place = tuple[int, bool]
"""(step, whether it is a validation): rows of metrics.jsonl come in this order."""

AT_ONCE = 100  # values that MLflow takes in one call


class Tracker(ABC):
    """One run in a tracker."""

    @abstractmethod
    def __init__(self, folder: RunFolder, recipe: Recipe, known: str | None) -> None:
        """Begin, or go on with the run that the tracker calls `known`."""

    id: str
    """What the tracker calls the run."""

    @abstractmethod
    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send the scalars of a row."""

    @abstractmethod
    def end(self, status: str) -> None:
        """Say how the run ended: finished, failed or interrupted."""


class WandbTracker(Tracker):
    """Weights & Biases: a folder wandb/offline-run-... for each start, which `wandb sync` sends."""

    def __init__(self, folder: RunFolder, recipe: Recipe, known: str | None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when it is imported
        import wandb

        self.id = known or uuid4().hex[:12]
        mode = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            mode=mode,
            id=self.id,
            resume=None if mode == "offline" else "allow",  # offline, the id alone tells
            dir=str(folder.path),
            project=os.environ.get("WANDB_PROJECT") or recipe.name,
            name=os.environ.get("WANDB_NAME") or folder.path.resolve().name,
            config=recipe.as_dict(),
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                x_disable_meta=True,
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                x_transaction_log_flush_interval=1.0,
            ),
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def end(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "finished" else 1)


class MlflowTracker(Tracker):
    """MLflow: mlflow.db in the run folder, which `mlflow ui` shows, or a server."""

    def __init__(self, folder: RunFolder, recipe: Recipe, known: str | None) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        at = folder.path.resolve()
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        client = self._client = MlflowClient(tracking_uri=uri or f"sqlite:///{at / 'mlflow.db'}")
        if known is not None:
            with suppress(MlflowException):  # of another server
                client.update_run(known, status="RUNNING")
                self.id = known
                return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or recipe.name
        found = client.get_experiment_by_name(name)
        files = None if uri else (at / "mlflow").as_uri()
        number = found.experiment_id if found else client.create_experiment(name, files)
        self.id = client.create_run(number, run_name=at.name).info.run_id
        params = [Param(key, str(value)) for key, value in flat(recipe.as_dict())]
        for first in range(0, len(params), AT_ONCE):
            client.log_batch(self.id, params=params[first : first + AT_ONCE])

    def log(self, values: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self.id, metrics=metrics, synchronous=True)

    def end(self, status: str) -> None:
        states = {"finished": "FINISHED", "interrupted": "KILLED"}
        self._client.set_terminated(self.id, states.get(status, "FAILED"))


TRACKERS: dict[str, type[Tracker]] = {"wandb": WandbTracker, "mlflow": MlflowTracker}


def require_trackers(trainer: Trainer) -> None:
    """
    Raises:
        MissingError: the package of one that is named is not installed.
    """
    for name in trainer.loggers:
        if not _is_here(name):
            raise MissingError(
                f"trainer.loggers: {name} is not installed", hint=f'pip install "aigc-cli[{name}]"'
            )


def _is_here(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


class Trackers:
    """Those of a run, on the process that writes for all. One that fails is left out, with a
    warning: its rows are in metrics.jsonl, and go to it when the run is resumed.
    """

    def __init__(self, folder: RunFolder, recipe: Recipe, emit: Emit) -> None:
        """Begin each, and send it what it lacks.

        Raises:
            RunError: one of them cannot begin.
        """
        self.folder, self.emit = folder, emit
        self._file = folder.path / "trackers.json"
        self._state: dict[str, dict[str, Any]] = _read(self._file)
        self._open: dict[str, Tracker] = {}
        for name in recipe.trainer.loggers:
            known = self._state.get(name, {})
            try:
                tracker = TRACKERS[name](folder, recipe, known.get("id"))
            except Exception as error:  # each has its own
                raise RunError(
                    f"trainer.loggers: {name} cannot begin: {_reason(error)}",
                    hint="see its settings in the environment, or leave it out with "
                    "trainer.loggers=[]",
                ) from error
            if known.get("id") != tracker.id:
                self._state[name] = {"id": tracker.id, "last": (-1, False)}
            self._open[name] = tracker
        if self._open:
            self.follow(_rows(self.folder))

    def follow(self, rows: Sequence[Row]) -> None:
        """Send rows of metrics.jsonl to those that lack them."""
        for name, tracker in list(self._open.items()):
            state = self._state[name]
            try:
                for row in rows:
                    if (place := _place(row)) > tuple(state["last"]):
                        tracker.log(_scalars(row), place[0])
                        state["last"] = place
            except Exception as error:
                del self._open[name]
                self.emit(
                    {
                        "event": "warning",
                        "message": f"{name} failed, and the run goes on without it: "
                        f"{_reason(error)}",
                    }
                )
        if self._open:
            with suppress(AigcError):  # a full disk is said by what matters more
                write_text(self._file, json.dumps(self._state, indent=1))

    def end(self, status: str) -> None:
        for tracker in self._open.values():
            with suppress(Exception):  # all rows are sent, and the run has its own ending
                tracker.end(status)
        self._open = {}


def _place(row: Row) -> Place:
    return int(row["step"]), row["event"] == "val"


def _scalars(row: Row) -> dict[str, float]:
    """What TensorBoard gets of a row, under the same names."""
    shared = ("lr", "samples_per_s", "data_wait")
    return {
        name: math.nan if value is None else value  # JSON has no NaN
        for name, value in row.items()
        if name.startswith(("train/", "val/")) or name in shared
    }


def _rows(folder: RunFolder) -> list[Row]:
    if not folder.metrics.exists():
        return []
    return list(map(json.loads, folder.metrics.read_text().splitlines()))


def _read(file: Any) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
