"""`aigc train`: from a recipe to a run folder with checkpoints, resumable at any step."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader

from aigc_cli import __version__
from aigc_cli.data._stream import ShardSampler, StepSampler
from aigc_cli.errors import (
    AigcError,
    CheckpointError,
    DiskFullError,
    Interrupted,
    RunError,
)
from aigc_cli.models._base import GenerativeModule, Run
from aigc_cli.recipe.load import Recipe
from aigc_cli.run import devices
from aigc_cli.run.build import attach_networks, build, check_monitor, count_steps
from aigc_cli.run.callbacks import (
    Checkpoints,
    EarlyEnd,
    Emit,
    Event,
    Metrics,
    Previews,
    Progress,
    Validation,
)
from aigc_cli.run.checkpoint import (
    FORMAT,
    NO_SPACE,
    find_usable,
    link_checkpoint,
    load_checkpoint,
)
from aigc_cli.run.events import describe
from aigc_cli.run.folder import (
    FOLDER_VARIABLE,
    RunFolder,
    identity,
    new_folder,
    newest_run,
)
from aigc_cli.run.paths import RUNS
from aigc_cli.run.sharding import full_tensors, network_state, restore_network, sharded_as
from aigc_cli.run.stop import Stop
from aigc_cli.run.training import Training
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


def train(
    recipe: Recipe,
    *,
    out: Path | None = None,
    resume: str | None = None,
    overwrite: bool = False,
    max_time_s: float | None = None,
    emit: Emit = _silent,
) -> Result:
    """Train in this process, alone or as one of the processes a launcher started.

    resume: None starts anew; "auto" continues `out`, or the newest run of this recipe, when there
    is a
    checkpoint and starts otherwise; a path continues that run folder or checkpoint.

    Raises:
        AigcError: see errors.py; Interrupted after a signal, with the state saved.
    """
    started = time.monotonic()
    world = devices.find_world()
    first = world.rank == 0
    if not first:
        emit = _silent
    settings = recipe.trainer
    share = devices.share_of_batch(settings, world.size)
    precision = devices.choose_precision(settings)
    data, model = build(recipe)
    monitor = check_monitor(recipe, model)
    max_steps = count_steps(recipe, len(data.train), model.batches_per_step)

    folder, checkpoint = choose_folder(recipe, out, resume, overwrite=overwrite, emit=emit)
    state = None
    if checkpoint is not None:
        state = load_checkpoint(checkpoint)
        check_resumable(recipe, state, checkpoint)
        require_fit(model, state, checkpoint)
        model.step = state["step"]
    attach_networks(model, recipe, state)
    if state is None and recipe.init_from is not None:
        emit({"event": "note", "message": load_initial(model, recipe.init_from, recipe.bases)})
    if first:
        emit = _and_log(emit, folder)

    best = state["best"] if state else None
    progress = Progress(folder, settings, max_steps, emit, best=best)
    loaders = Loaders(recipe, data, model, share=share, world=world, max_steps=max_steps)
    checkpoints = Checkpoints(progress, lambda: collect(recipe, model, trainer, progress))
    stop = Stop(max_time_s)
    callbacks: list[pl.Callback] = [
        Restore(recipe, state, max_steps, world),
        Metrics(progress, settings.global_batch * model.batches_per_step),
        Validation(progress, monitor),
        Previews(progress, recipe, data.val),
        checkpoints,
        EarlyEnd(progress, stop, checkpoints),
    ]
    with quiet_lightning():
        trainer = pl.Trainer(
            max_epochs=1,  # the loader is as long as what is left of the run
            val_check_interval=settings.validate_every,
            check_val_every_n_epoch=None,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            **devices.lightning_arguments(settings, world, find_unused=model.find_unused),
        )
    # Validation keeps its place when the first part of the run was another process.
    trainer.fit_loop.epoch_loop.batch_progress.total.ready = model.step
    status, code = "failed", 1
    if first:
        folder.create()
        folder.lock()
    try:
        if first:
            folder.describe(recipe)
            folder.forget_after(model.step)
            if checkpoint and best and best["step"] == model.step:
                link_checkpoint(checkpoint, folder.best)  # a kill may have come between the two
            folder.status("running", step=model.step, steps=max_steps)
        emit(
            {
                "event": "start",
                "run": str(folder.path),
                "params": sum(p.numel() for p in model.parameters()),
                "step": model.step,
                "steps": max_steps,
                "world": world.size,
                "device": str(devices.choose_device(settings.device)),
                "precision": precision,
                "train_items": len(data.train),
                "val_items": len(data.val),
            }
        )
        if model.step < max_steps and not progress.out_of_patience(model.step):
            model.train()  # Lightning does not ask, and some families train without dropout
            with quiet_lightning(), expected_failures(recipe):
                trainer.fit(Training(model), datamodule=loaders)
        if dist.is_initialized():  # or its threads may outlive the interpreter, which aborts
            dist.destroy_process_group()
        status, code = (progress.status if progress.status == "stopped" else "finished"), 0
    except Interrupted as ending:
        status, code = "interrupted", ending.exit_code
        ending.hint = f"continue with: aigc train --resume {folder.path}"
        raise
    except AigcError as error:
        code = error.exit_code
        raise
    finally:
        stop.restore()
        data.stop_background()
        seconds = time.monotonic() - started
        if first:
            with suppress(AigcError):  # the ending in progress says more than a full disk here
                folder.status(
                    status,
                    step=model.step,
                    steps=max_steps,
                    exit=code,
                    seconds=round(seconds, 1),
                    best=progress.best,
                )
            emit(
                {
                    "event": "end",
                    "status": status,
                    "exit": code,
                    "step": model.step,
                    "best": progress.best,
                    "run": str(folder.path),
                    "seconds": round(seconds, 1),
                }
            )
            folder.unlock()
    return Result(folder.path, status, model.step, seconds, progress.best)


def choose_folder(
    recipe: Recipe, out: Path | None, resume: str | None, *, overwrite: bool, emit: Emit
) -> tuple[RunFolder, Path | None]:
    """Where the run writes, and the checkpoint it continues from, if any.

    A launcher hands its choice down; processes that torchrun or srun started choose alike, and only
    the first of them writes.

    Raises:
        OutputError: the folder is in use. CheckpointError: nothing usable to continue from.
    """
    handed = os.environ.get(FOLDER_VARIABLE)
    if handed:
        folder = RunFolder(Path(handed))
    elif resume is None:
        if devices.find_world().rank > 0:
            return RunFolder(out or RUNS), None
        return new_folder(recipe, out, overwrite=overwrite), None
    elif resume == "auto":
        found = RunFolder(out) if out is not None else newest_run(recipe)
        folder = found or new_folder(recipe, None, overwrite=False)
    elif Path(resume).is_file():
        return RunFolder(out or Path(resume).absolute().parent.parent), Path(resume)
    else:
        folder = RunFolder(Path(resume))
        if not (folder.last.exists() or folder.best.exists()):
            raise CheckpointError(
                f"{resume}: no checkpoint to continue from",
                hint="expected a run folder with checkpoints/last.ckpt, or a .ckpt file",
            )
    if resume is not None and Path(resume).is_file():
        return folder, Path(resume)
    if resume is None or not (folder.last.exists() or folder.best.exists()):
        return folder, None
    checkpoint = find_usable(folder.last, folder.best)
    if checkpoint != folder.last:
        message = f"{folder.last} is damaged or absent; continuing from {checkpoint}"
        emit({"event": "warning", "message": message})
    return folder, checkpoint


def check_resumable(recipe: Recipe, state: dict[str, Any], path: Path) -> None:
    """A run continues only what it was.

    Raises:
        CheckpointError: values that decide what is learned differ; names them all.
    """
    ours, theirs = identity(recipe.as_dict()), identity(state["recipe"])
    changed = [
        f"{key} ({old} in the checkpoint, {new} now)"
        for (key, new), (_, old) in zip(flatten(ours), flatten(theirs, like=ours), strict=True)
        if new != old
    ]
    if changed:
        raise CheckpointError(
            f"{path}: the run cannot be continued with other values of {'; '.join(changed)}",
            hint="undo the change, or start a new run with init_from to fine-tune",
            code="checkpoint.changed",
        )


def flatten(
    values: dict[str, Any], like: dict[str, Any] | None = None, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) pairs; with `like`, in its order and for its keys, None where absent."""
    for key, shape in (like or values).items():
        value = values.get(key) if isinstance(values, dict) else None
        if isinstance(shape, dict):
            yield from flatten(value or {}, shape, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def collect(
    recipe: Recipe, model: GenerativeModule, trainer: pl.Trainer, progress: Progress
) -> dict[str, Any]:
    """The content of a checkpoint; with sharded weights every process must call it."""
    weights, optimizers = network_state(model, trainer.optimizers)
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return {
        "format": FORMAT,
        "aigc": __version__,
        "torch": str(torch.__version__),
        "step": model.step,
        "samples": model.step * recipe.trainer.global_batch * model.batches_per_step,
        "recipe": recipe.as_dict(),
        "recipe_path": str(recipe.path.resolve()) if recipe.path else None,
        "spec": model.spec.as_dict(),
        "weights": weights,
        "ema": full_tensors(model.ema.state_dict()) if model.ema is not None else None,
        "optimizers": optimizers,
        "scaler": scaler.state_dict() if scaler is not None else None,
        "best": progress.best,
        **{name: network.state() for name, network in model.frozen_networks.items()},
    }


class Restore(pl.Callback):
    """Prepares the module once its weights are on their device, and puts a checkpoint's
    state back.
    """

    def __init__(
        self, recipe: Recipe, state: dict[str, Any] | None, max_steps: int, world: devices.World
    ) -> None:
        self.recipe, self.state, self.max_steps, self.world = recipe, state, max_steps, world

    def on_fit_start(self, trainer: pl.Trainer, module: Training) -> None:
        settings, model = self.recipe.trainer, module.model
        if settings.channels_last:
            model.to(memory_format=torch.channels_last)
        if self.state is not None:
            restore_network(model, trainer.optimizers, self.state)
        model.prepare(
            Run(settings, self.recipe.seed, self.max_steps, self.world.rank, self.world.size)
        )
        if self.state is not None:
            if model.ema is not None:
                own = model.ema.state_dict()
                saved = self.state["ema"]
                model.ema.load_state_dict({k: sharded_as(saved[k], t) for k, t in own.items()})
            scaler = getattr(trainer.precision_plugin, "scaler", None)
            if scaler is not None and self.state["scaler"] is not None:
                scaler.load_state_dict(self.state["scaler"])
        if settings.compile:
            for network in model.networks().values():
                network.compile()
        module.begin()
        self.state = None  # half of the memory of a large run


class Loaders(pl.LightningDataModule):
    """Batches from the first step not yet done to the last; validation items spread without
    padding.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Any,
        model: GenerativeModule,
        *,
        share: int,
        world: devices.World,
        max_steps: int,
    ) -> None:
        super().__init__()
        self.recipe, self.data, self.model = recipe, data, model
        self.share, self.world, self.max_steps = share, world, max_steps

    def train_dataloader(self) -> DataLoader[Any]:
        settings = self.recipe.trainer
        sampler = StepSampler(
            len(self.data.train),
            global_batch=settings.global_batch,
            rank=self.world.rank,
            world=self.world.size,
            seed=self.recipe.seed,
            start=self.model.step,
            stop=self.max_steps,
            batches=self.model.batches_per_step,
            lengths=getattr(self.data.train, "lengths", None),
        )
        self.data.start_background()
        return DataLoader(
            self.data.train,
            batch_sampler=sampler,
            collate_fn=getattr(self.data.train, "collate", None),
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            pin_memory=devices.choose_device(settings.device) == "cuda",
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(
            self.data.val,
            batch_size=self.data.val_batch_size or self.share,
            sampler=ShardSampler(len(self.data.val), self.world.rank, self.world.size),
            collate_fn=getattr(self.data.val, "collate", None),
        )


def _and_log(emit: Emit, folder: RunFolder) -> Emit:
    """Also write each event as a line of log.txt."""

    def both(event: Event) -> None:
        line = describe(event)
        if line:
            with suppress(OSError), folder.log.open("a") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")
        emit(event)

    return both


@contextmanager
def expected_failures(recipe: Recipe) -> Iterator[None]:
    """Turn what can be expected of a run into one sentence with the remedy."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        trainer = recipe.trainer
        raise RunError(
            f"out of GPU memory with trainer.global_batch {trainer.global_batch} "
            f"in {trainer.accumulate} accumulated part(s)",
            hint=f"set trainer.accumulate={2 * trainer.accumulate}: the same result in less memory",
            code="run.memory",
        ) from error
    except MemoryError as error:
        raise RunError(
            "out of memory", hint="lower trainer.global_batch or trainer.workers"
        ) from error
    except (EOFError, ConnectionError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
            raise
        raise RunError(
            "a process that prepares batches was killed from outside, perhaps for want of memory",
            hint="lower trainer.workers and continue with --resume",
            code="run.lost_worker",
        ) from error
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise DiskFullError(
            "no space left to write the logs of the run",
            hint="free some space and continue with --resume; the last checkpoint is intact",
        ) from error


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Hold back Lightning's advertisements and the warnings about choices made here on purpose."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for text in (
            "The '.*_dataloader' does not have many workers",  # the cache makes items cheap
            "You defined a `validation_step` but",
            "The number of training batches",  # no Lightning logger is used
            ".*isinstance.treespec, LeafSpec.*",  # Lightning with a newer torch
            r"Found \d+ module.s. in eval mode",  # a frozen copy is meant to be
        ):
            warnings.filterwarnings("ignore", message=text)
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
