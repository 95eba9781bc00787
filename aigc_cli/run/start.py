"""From the words of a command to a run: the recipe that is meant, and the processes that
train it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from aigc_cli.errors import AigcError, InputError, RunError
from aigc_cli.recipe.load import Recipe, load_recipe, recipe_from_dict, require_trainable
from aigc_cli.run import devices
from aigc_cli.run.build import attach_networks, build, check_monitor
from aigc_cli.run.checkpoint import load_checkpoint
from aigc_cli.run.engines.cluster import Engine
from aigc_cli.run.engines.training import train_on_ray
from aigc_cli.run.failures import LostPeer
from aigc_cli.run.folder import FOLDER_VARIABLE, RunFolder
from aigc_cli.run.launch import end_with_parent, launch
from aigc_cli.run.paths import find_checkpoint
from aigc_cli.run.progress import Emit
from aigc_cli.run.request import Request
from aigc_cli.run.resume import choose_folder
from aigc_cli.run.sample import make
from aigc_cli.run.trackers import require_trackers
from aigc_cli.run.train import train
from aigc_cli.run.trained import load_trained
from aigc_cli.run.weights import complete


def resolve(recipe: str | None, overrides: Sequence[str], resume: str | None) -> Recipe:
    """The recipe that is named, or the one inside the checkpoint that is continued.

    Raises:
        InputError: neither is given. RecipeError: mistakes in the recipe or the overrides.
    """
    if recipe is not None and "=" in recipe and not Path(recipe).exists():
        overrides, recipe = [recipe, *overrides], None  # aigc train --resume RUN key=value
    if recipe is not None:
        return complete(require_trainable(load_recipe(recipe, overrides)))
    if resume in (None, "auto"):
        raise InputError("missing argument 'RECIPE'", hint="list recipes with: aigc recipe ls")
    state = load_checkpoint(find_checkpoint(str(resume)))
    path = Path(state["recipe_path"]) if state["recipe_path"] else None
    return recipe_from_dict(state["recipe"], path, overrides)


def start(
    recipe: Recipe,
    arguments: Sequence[str],
    *,
    out: Path | None,
    resume: str | None,
    overwrite: bool,
    max_time_s: float | None,
    accept_changed_data: bool = False,
    engine: Engine | None = None,
    words: Sequence[str] = (),
    emit: Emit,
) -> Path | None:
    """Train here, or start the worker processes that do; the run folder on the process that
    reports.

    arguments: the command line, which the workers run again. engine: the cluster whose workers
    train; `words`, recipe and overrides, are what they run.
    """
    world = devices.find_world()
    if engine is not None:
        folder = _ready(recipe, engine.workers, out, resume, overwrite=overwrite, emit=emit)
        more = ["--accept-changed-data"] if accept_changed_data else []
        if resume is not None and Path(resume).is_file():
            more += ["--resume", resume]
        train_on_ray(
            engine, [*words, *more], folder, recipe.trainer.device, max_time_s=max_time_s, emit=emit
        )
        return folder.path
    processes = 1 if world.is_worker else devices.choose_devices(recipe.trainer)
    if processes == 1:
        if FOLDER_VARIABLE in os.environ:
            end_with_parent()
        try:
            result = train(
                recipe,
                out=out,
                resume=resume,
                overwrite=overwrite,
                max_time_s=max_time_s,
                accept_changed_data=accept_changed_data,
                emit=emit,
            )
        except LostPeer as lost:
            if FOLDER_VARIABLE in os.environ:  # the launcher says which was killed, and how
                raise SystemExit(lost.exit_code) from None
            raise
        return result.folder if world.rank == 0 else None
    if recipe.trainer.num_nodes > 1:
        raise InputError(
            "trainer.num_nodes is more than 1, but nothing started this on several machines",
            hint="start it with torchrun or srun, see docs/scale.md",
        )
    folder = _ready(recipe, processes, out, resume, overwrite=overwrite, emit=emit)
    code = launch(processes, arguments, folder.path)
    if code:
        raise WorkerFailed(code, folder.path)
    return None  # the first worker has reported


def _ready(
    recipe: Recipe,
    processes: int,
    out: Path | None,
    resume: str | None,
    *,
    overwrite: bool,
    emit: Emit,
) -> RunFolder:
    """The folder of a run of several processes, once every mistake that they would make is found.

    Raises:
        AigcError: as `train` before its first step.
    """
    require_trackers(recipe.trainer)
    devices.share_of_batch(recipe.trainer, processes)
    data, model = build(recipe)
    check_monitor(recipe, model)
    if resume is None:
        attach_networks(model, recipe)
    del data, model
    folder, _ = choose_folder(recipe, out, resume, overwrite=overwrite, emit=emit)
    folder.create()
    folder.lock()  # nobody else trains here
    folder.unlock()  # the first worker will hold it
    return folder


class WorkerFailed(RunError):
    """A worker ended with its own sentence on stderr; the parent only keeps its exit code."""

    code = "run.worker"

    def __init__(self, exit_code: int, folder: Path) -> None:
        super().__init__(f"a worker process ended with exit code {exit_code}, see above")
        self.exit_code = exit_code


def smoke_test(recipe: Recipe, emit: Emit) -> None:
    """The whole path on the recipe's own data: two steps, a checkpoint, resume, one more step, a
    sample.

    Raises:
        AigcError: whatever a real run would end with.
    """
    quick = [f"trainer.{k}=1" for k in ("log_every", "devices", "num_nodes")]
    cadence = [f"trainer.{k}=2" for k in ("validate_every", "checkpoint_every", "preview_every")]

    def shortened(steps: int) -> Recipe:
        data = recipe.as_dict()
        data["trainer"] |= {"max_steps": steps, "max_epochs": None, "strategy": "auto"}
        data["trainer"]["loggers"] = []  # of what is deleted at once
        return recipe_from_dict(data, recipe.path, [*quick, *cadence])

    with tempfile.TemporaryDirectory(prefix="aigc-smoke-") as folder:
        run = Path(folder) / "run"
        train(shortened(2), out=run, emit=emit)
        result = train(shortened(3), resume=str(run), emit=emit)
        if result.step != 3:
            raise AigcError(f"smoke: stopped after step {result.step} instead of 3", code="bug")
        trained = load_trained(str(run))
        data, _ = build(recipe)
        make(trained, Request(Path(folder) / "samples"), items=data.val)
    emit({"event": "note", "message": "smoke test passed: trained, resumed and sampled"})
