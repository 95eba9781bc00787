"""What happens around the training steps: logs, previews, checkpoints, early ending.

Every cadence counts `model.step`, iterations, which survives a resume.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from aigc_cli.errors import Interrupted
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.checkpoint import link_checkpoint, save_checkpoint
from aigc_cli.run.folder import RunFolder
from aigc_cli.run.request import Request
from aigc_cli.run.sample import make
from aigc_cli.run.stop import TIME_IS_UP, Stop, requeue
from aigc_cli.run.trained import Trained
from aigc_cli.run.training import Training

Event = dict[str, Any]
Emit = Callable[[Event], None]


@dataclass
class Progress:
    """What the callbacks of one run share."""

    folder: RunFolder
    settings: Trainer
    max_steps: int
    emit: Emit
    best: dict[str, Any] | None = None
    status: str = "running"
    saved_step: int = -1
    rate: float = 0.0
    last_means: dict[str, float] = field(default_factory=dict)

    def out_of_patience(self, step: int) -> bool:
        """Whether `trainer.patience` validations have passed since the best one."""
        patience, best = self.settings.patience, self.best
        if patience is None or best is None:
            return False
        return step - int(best["step"]) >= patience * self.settings.validate_every


class Metrics(pl.Callback):
    """Means of the loss terms since the last row, rate, share of time spent waiting for
    data, ETA.
    """

    def __init__(self, progress: Progress, samples_per_step: int) -> None:
        self.progress = progress
        self.samples_per_step = samples_per_step
        self._board: Any = None

    def on_train_start(self, trainer: pl.Trainer, module: Training) -> None:
        self._reset()
        self._batch_ended = time.perf_counter()
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(
                str(self.progress.folder.tensorboard), purge_step=module.step + 1
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: Training, batch: Any, batch_idx: int
    ) -> None:
        self._waited += time.perf_counter() - self._batch_ended

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Training, outputs: Any, batch: Any, idx: int
    ) -> None:
        for name, value in module.iteration.terms.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._steps += 1
        done = module.step
        if trainer.is_global_zero:
            self.progress.emit({"event": "tick", "step": done})
        if done % self.progress.settings.log_every == 0 or done == self.progress.max_steps:
            self._log(trainer, module)
        self._batch_ended = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, module: Training) -> None:
        if trainer.is_global_zero and self.progress.last_means:
            for name, value in self.progress.last_means.items():
                self._write(f"val/{name}", value, module.step)
        self._batch_ended = time.perf_counter()  # validation is not waiting for data
        self._begun += time.perf_counter() - self._paused

    def on_validation_start(self, trainer: pl.Trainer, module: Training) -> None:
        self._paused = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, module: Training) -> None:
        if self._board is not None:
            self._board.close()

    def on_exception(self, trainer: pl.Trainer, module: Training, exception: BaseException) -> None:
        with suppress(OSError):  # a full disk is said once
            self.on_train_end(trainer, module)

    def _log(self, trainer: pl.Trainer, module: Training) -> None:
        module.iteration.raise_if_diverged()
        names = sorted(self._sums)
        means = torch.stack([torch.as_tensor(self._sums[name]).float() for name in names])
        means = means / self._steps
        if trainer.world_size > 1:
            means = means.to(module.device)
            dist.all_reduce(means)
            means = means / trainer.world_size
        seconds = time.perf_counter() - self._begun
        rate = self._steps * self.samples_per_step / seconds
        self.progress.rate = rate
        if trainer.is_global_zero:
            optimizers = trainer.optimizers
            row = {f"train/{n}": float(v) for n, v in zip(names, means.tolist(), strict=True)}
            row["lr"] = optimizers[-1].param_groups[0]["lr"]
            for name, value in row.items():
                self._write(name, value, module.step)
            speed = {
                "samples_per_s": round(rate, 2),
                "data_wait": round(self._waited / seconds, 4),
            }
            for name, value in speed.items():
                self._write(name, value, module.step)
            left = (self.progress.max_steps - module.step) * seconds / self._steps
            event = {
                "event": "step",
                "step": module.step,
                **row,
                **speed,
                "eta_s": round(left),
            }
            losses = {n: float(v) for n, v in zip(names, means.tolist(), strict=True)}
            if failures := module.model.health(losses):
                event["health"] = failures
            self.progress.folder.append(event)
            self.progress.emit(event)
        self._reset()

    def _write(self, name: str, value: float, step: int) -> None:
        if self._board is not None:
            self._board.add_scalar(name, value, step)

    def _reset(self) -> None:
        self._sums: dict[str, Tensor | int] = {}
        self._steps = 0
        self._waited = 0.0
        self._begun = time.perf_counter()


class Validation(pl.Callback):
    """Validates with the averaged weights and remembers the best value of the monitored metric."""

    def __init__(self, progress: Progress, monitor: str) -> None:
        self.progress = progress
        self.monitor = monitor

    def on_validation_start(self, trainer: pl.Trainer, module: Training) -> None:
        self._averaged = module.model.averaged_weights()
        self._averaged.__enter__()

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: Training) -> None:
        self._averaged.__exit__(None, None, None)
        means = module.model.validation_means()
        self.progress.last_means = means
        value, best = means[self.monitor], self.progress.best
        sign = 1 if module.model.metrics[self.monitor] == "max" else -1
        better = best is None or sign * value > sign * best["value"]
        if better and value == value:  # not NaN
            self.progress.best = {"metric": self.monitor, "value": value, "step": module.step}
        if trainer.is_global_zero:
            values = {f"val/{name}": mean for name, mean in means.items()}
            row = {"event": "val", "step": module.step, **values, "best": self.progress.best}
            self.progress.folder.append(row)
            self.progress.emit(row)
        if module.step < self.progress.max_steps and self.progress.out_of_patience(module.step):
            waited = f"{self.progress.settings.patience} validations without a better"
            self.progress.emit({"event": "note", "message": f"{waited} {self.monitor}: ending"})
            trainer.should_stop = True


class Checkpoints(pl.Callback):
    """Writes last.ckpt at its cadence and best.ckpt, the same file, when the step is the
    best one.
    """

    def __init__(self, progress: Progress, collect: Callable[[], dict[str, Any]]) -> None:
        self.progress = progress
        self.collect = collect

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Training, outputs: Any, batch: Any, idx: int
    ) -> None:
        settings = self.progress.settings
        validates_now = module.step % settings.validate_every == 0
        if module.step % settings.checkpoint_every == 0 and not validates_now:
            self.save(trainer, module)

    def on_validation_end(self, trainer: pl.Trainer, module: Training) -> None:
        best = self.progress.best
        is_best = best is not None and best["step"] == module.step
        if is_best or module.step % self.progress.settings.checkpoint_every == 0:
            self.save(trainer, module)
            if is_best and trainer.is_global_zero:
                link_checkpoint(self.progress.folder.last, self.progress.folder.best)

    def save(self, trainer: pl.Trainer, module: Training) -> None:
        """Write last.ckpt unless this very step is in it; every process takes part, the first
        writes.
        """
        if self.progress.saved_step == module.step:
            return
        module.iteration.raise_if_diverged()
        state = self.collect()
        if trainer.is_global_zero:
            save_checkpoint(state, self.progress.folder.last)
            self.progress.emit(
                {
                    "event": "checkpoint",
                    "step": module.step,
                    "path": str(self.progress.folder.last),
                }
            )
        self.progress.saved_step = module.step


class Previews(pl.Callback):
    """What the averaged model makes: the files of `aigc sample RUN --seed 0` in a folder for each
    such step, also before the first.
    """

    def __init__(self, progress: Progress, recipe: Recipe, items: Any) -> None:
        self.progress = progress
        self.recipe, self.items = recipe, items

    def on_train_start(self, trainer: pl.Trainer, module: Training) -> None:
        if module.step == 0:
            self._show(trainer, module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Training, outputs: Any, batch: Any, idx: int
    ) -> None:
        done = module.step
        if done % self.progress.settings.preview_every == 0 or done == self.progress.max_steps:
            self._show(trainer, module)

    def _show(self, trainer: pl.Trainer, module: Training) -> None:
        """On every process, since sharded weights need them all; the first one's files stay."""
        folder = self.progress.folder.previews / f"step-{module.step:07d}"
        model = module.model
        module.eval()
        with TemporaryDirectory() as elsewhere, model.averaged_weights():
            out = folder if trainer.is_global_zero else Path(elsewhere)
            trained = Trained(model, self.recipe, model.spec, step=module.step)
            with torch.autocast(module.device.type, enabled=False):
                make(trained, Request(out, overwrite=True), items=self.items)
        module.train()
        if trainer.is_global_zero:
            self.progress.emit({"event": "sample", "step": module.step, "path": str(folder)})


class EarlyEnd(pl.Callback):
    """Acts on signals and on --max-time after the step in progress; last in the list of
    callbacks.
    """

    def __init__(self, progress: Progress, stop: Stop, checkpoints: Checkpoints) -> None:
        self.progress = progress
        self.stop = stop
        self.checkpoints = checkpoints

    def on_train_start(self, trainer: pl.Trainer, module: Training) -> None:
        self.stop.listen()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Training, outputs: Any, batch: Any, idx: int
    ) -> None:
        asked = self.stop.agreed()
        is_last = module.step >= self.progress.max_steps
        validates_now = is_last or module.step % self.progress.settings.validate_every == 0
        if asked > 0 and not validates_now:
            self._interrupt(asked, trainer, module)
        if asked == TIME_IS_UP:
            self.progress.status = "stopped"
        if asked == TIME_IS_UP or is_last:
            trainer.should_stop = True  # Lightning then validates once more and ends

    def on_validation_end(self, trainer: pl.Trainer, module: Training) -> None:
        """A step that validates ends with its validation, or a resumed run would lack it."""
        asked = self.stop.agreed()
        if asked > 0:
            self._interrupt(asked, trainer, module)

    def _interrupt(self, number: int, trainer: pl.Trainer, module: Training) -> NoReturn:
        self.checkpoints.save(trainer, module)
        message = f"stopped by signal {number} after step {module.step}; the state is saved"
        if trainer.is_global_zero and (note := requeue()):
            message += f"; {note}"
        raise Interrupted(number, message)

    def on_train_end(self, trainer: pl.Trainer, module: Training) -> None:
        self.checkpoints.save(trainer, module)
        self.stop.restore()
