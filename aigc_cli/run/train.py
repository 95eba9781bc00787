"""`aigc train`: from a recipe to a run folder with checkpoints, resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist

from aigc_cli.data._data import DataSource, data_digest
from aigc_cli.errors import AigcError, Interrupted, RunError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.load import Recipe
from aigc_cli.run import devices
from aigc_cli.run.base import load_whole
from aigc_cli.run.build import attach_networks, build, check_monitor, count_steps
from aigc_cli.run.callbacks import Cadence, Checkpoints, Previews, Restore
from aigc_cli.run.checkpoint import link_checkpoint
from aigc_cli.run.events import describe
from aigc_cli.run.failures import expected_failures, quiet_lightning, quiet_threads
from aigc_cli.run.folder import RunFolder
from aigc_cli.run.loaders import Loaders
from aigc_cli.run.log import Log
from aigc_cli.run.paths import way_on
from aigc_cli.run.progress import Emit, Event, Progress
from aigc_cli.run.report import write_report
from aigc_cli.run.resume import (
    check_data,
    check_resumable,
    choose_folder,
    collect,
    require_optimizers_fit,
    require_same_tokens,
)
from aigc_cli.run.stop import Stop
from aigc_cli.run.trackers import require_trackers
from aigc_cli.run.training import Training
from aigc_cli.run.validation import Validation
from aigc_cli.run.weights import load_initial, require_fit


def _silent(event: Event) -> None:
    pass


@dataclass(frozen=True)
class Result:
    """How a run ended."""

    folder: Path
    status: str
    step: int
    seconds: float
    best: dict[str, Any] | None


@dataclass
class Session:
    """What `train` has made ready: all of it is checked, and nothing of the run is written yet."""

    recipe: Recipe
    world: devices.World
    data: DataSource
    digest: str
    model: GenerativeModule
    monitor: str
    folder: RunFolder
    checkpoint: Path | None
    state: dict[str, Any] | None
    progress: Progress
    notes: list[Event]
    """Events that came before the log could be written."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes for all."""
        return self.world.rank == 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done."""
        progress, step = self.progress, self.model.step
        done = step >= progress.max_steps or progress.out_of_patience(step)
        return done and not progress.pending


def train(
    recipe: Recipe,
    *,
    out: Path | None = None,
    resume: str | None = None,
    overwrite: bool = False,
    max_time_s: float | None = None,
    accept_changed_data: bool = False,
    enough: Callable[[], bool] | None = None,
    emit: Emit = _silent,
) -> Result:
    """Train in this process, alone or as one of the processes a launcher started.

    enough: asked after each validation whether the run may end there; for one process.
    resume: None starts anew; "auto" continues `out`, or the newest run of this recipe, when there
    is a checkpoint and starts otherwise; a path continues that run folder or checkpoint, on the
    same data unless `accept_changed_data`.

    Raises:
        AigcError: see errors.py; Interrupted after a signal, with the state saved.
    """
    started = time.monotonic()
    session = prepare(
        recipe,
        out,
        resume,
        overwrite=overwrite,
        accept_changed_data=accept_changed_data,
        emit=emit,
    )
    session.progress.enough = enough or session.progress.enough
    if session.is_first:
        session.folder.create()
        session.folder.lock()
    stop = Stop(None if max_time_s is None else started + max_time_s)
    status, code = "failed", 1
    try:
        _begin(session)
        verdict = None if session.is_over else _fit(session, stop)
        status, code = ("stopped" if session.progress.status == "stopped" else "finished"), 0
        if verdict is not None:
            _judge(session, verdict)
    except Interrupted as ending:
        status, code = "interrupted", ending.exit_code
        ending.hint = way_on(session.folder)
        raise
    except KeyboardInterrupt:
        status, code = "interrupted", 130
        raise
    except AigcError as error:
        status, code = "failed", error.exit_code
        raise
    finally:
        stop.restore()
        session.data.stop_background()
        seconds = time.monotonic() - started
        if session.is_first:
            _end(session, status, code, seconds)
    return Result(session.folder.path, status, session.model.step, seconds, session.progress.best)


def prepare(
    recipe: Recipe,
    out: Path | None,
    resume: str | None,
    *,
    overwrite: bool,
    accept_changed_data: bool,
    emit: Emit,
) -> Session:
    """Find and check everything that the run needs: data, model, folder, checkpoint.

    Raises:
        AigcError: anything that is wrong with them.
    """
    require_trackers(recipe.trainer)
    world = devices.find_world()
    emit = emit if world.rank == 0 else _silent
    devices.share_of_batch(recipe.trainer, world.size)
    devices.choose_precision(recipe.trainer)
    devices.check_strategy(recipe.trainer, world)
    emit({"event": "phase", "phase": "checking data"})
    data, model = build(recipe)
    monitor = check_monitor(recipe, model)
    max_steps = count_steps(recipe, len(data.train), model.batches_per_step)
    digest = data_digest(data)

    folder, checkpoint = choose_folder(recipe, out, resume, overwrite=overwrite, emit=emit)
    is_first = world.rank == 0
    told = _and_log(emit, folder) if is_first else emit
    progress = Progress(folder, recipe.trainer, max_steps, told)
    notes: list[Event] = []
    state = None
    if checkpoint is not None:
        state = load_whole(checkpoint)
        check_resumable(recipe, state, checkpoint)
        changed = check_data(state, digest, checkpoint, accepted=accept_changed_data)
        if changed is not None:
            require_same_tokens(data.spec, state, checkpoint)
            notes.append({"event": "warning", "message": changed})
        require_fit(model, state, checkpoint)
        require_optimizers_fit(model, recipe.trainer, state, checkpoint)
        model.step, model.base = state["step"], state.get("base")
        progress.best, progress.began = state["best"], state.get("began")
        progress.pending = list(state.get("pending") or [])
    attach_networks(model, recipe, state)
    if state is None and recipe.init_from is not None:
        message = load_initial(model, recipe.init_from, recipe.bases)
        notes.append({"event": "note", "message": message})
    return Session(
        recipe, world, data, digest, model, monitor, folder, checkpoint, state, progress, notes
    )


def _begin(session: Session) -> None:
    """Write what is known at the start, and say it."""
    recipe, folder, model = session.recipe, session.folder, session.model
    progress, settings = session.progress, session.recipe.trainer
    if session.is_first:
        folder.describe(recipe)
        folder.found(session.data.report)
        folder.forget_after(model.step, pending=progress.pending)
        best = progress.best
        if session.checkpoint and best and best["step"] == model.step:
            link_checkpoint(session.checkpoint, folder.best)  # a kill may have come between the two
        folder.status("running", step=model.step, steps=progress.max_steps)
    for note in session.notes:
        progress.emit(note)
    progress.emit(
        {
            "event": "start",
            "run": str(folder.path),
            "params": sum(p.numel() for p in model.parameters()),
            "step": model.step,
            "steps": progress.max_steps,
            "world": session.world.size,
            "device": str(devices.choose_device(settings.device)),
            "precision": devices.choose_precision(settings),
            "train_items": len(session.data.train),
            "val_items": len(session.data.val),
        }
    )


def _fit(session: Session, stop: Stop) -> str | None:
    """Train to the end; what there is to say of it, see run/worth.py."""
    recipe, model, world = session.recipe, session.model, session.world
    settings, progress = recipe.trainer, session.progress
    loaders = Loaders(
        recipe,
        session.data,
        model,
        share=devices.share_of_batch(settings, world.size),
        world=world,
        max_steps=progress.max_steps,
    )

    def state() -> dict[str, Any]:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        return collect(recipe, model, trainer.optimizers, scaler, progress, session.digest)

    cadence = Cadence(
        progress,
        log=Log(progress, recipe, settings.global_batch * model.batches_per_step),
        validation=Validation(progress, session.monitor, loaders, stop),
        previews=Previews(progress, recipe, session.data.val),
        checkpoints=Checkpoints(progress, state),
        stop=stop,
    )
    restore = Restore(recipe, session.state, progress.max_steps, world)
    session.state = None  # half of the memory of a large run, once it is restored
    stop.listen(at_once=True)
    with quiet_threads(), quiet_lightning(), expected_failures(recipe, world):
        trainer = pl.Trainer(
            max_epochs=1,  # the loader is as long as what is left of the run
            callbacks=[restore, cadence],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            **devices.lightning_arguments(settings, world, find_unused=model.find_unused),
        )
        model.train()  # Lightning does not ask, and some families train without dropout
        trainer.fit(Training(model), datamodule=loaders)
    if dist.is_initialized():  # or its threads may outlive the interpreter, which aborts
        dist.destroy_process_group()
    return cadence.verdict


def _judge(session: Session, verdict: str) -> None:
    """
    Raises:
        RunError: the recipe wants a run that ends far worse than it began to fail.
    """
    if not session.is_first:
        return
    if session.recipe.trainer.on_worse == "fail":
        raise RunError(verdict, hint="lower model.lr, or see the curve in metrics.jsonl")
    session.progress.emit({"event": "warning", "message": verdict})


def _end(session: Session, status: str, code: int, seconds: float) -> None:
    """Write down how it ended, and say it."""
    folder, progress, step = session.folder, session.progress, session.model.step
    with suppress(AigcError):  # the ending in progress says more than a full disk here
        folder.status(
            status,
            step=step,
            steps=progress.max_steps,
            exit=code,
            seconds=round(seconds, 1),
            best=progress.best,
        )
        write_report(folder.path)
    progress.emit(
        {
            "event": "end",
            "status": status,
            "exit": code,
            "step": step,
            "best": progress.best,
            "warnings": dict(progress.warnings),
            "run": str(folder.path),
            "seconds": round(seconds, 1),
            **({} if progress.settings.keep_best else {"kept": "last"}),
        }
    )
    folder.unlock()


def _and_log(emit: Emit, folder: RunFolder) -> Emit:
    """Also write each event as a line of log.txt."""

    def both(event: Event) -> None:
        line = describe(event)
        if line:
            with suppress(OSError), folder.log.open("a") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        emit(event)

    return both
