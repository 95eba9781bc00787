"""What happens around the training steps, in one order: log, validate, show, save, end.

Every cadence counts `model.step`, iterations, which survives a resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch

from aigc_cli.errors import Interrupted
from aigc_cli.models._base import GenerativeModule, Run
from aigc_cli.recipe.load import Recipe
from aigc_cli.run.checkpoint import link_checkpoint, save_checkpoint
from aigc_cli.run.devices import World
from aigc_cli.run.log import Log
from aigc_cli.run.progress import Progress
from aigc_cli.run.request import Request
from aigc_cli.run.sample import make
from aigc_cli.run.sharding import restore_network, sharded_as
from aigc_cli.run.stop import TIME_IS_UP, Stop, requeue
from aigc_cli.run.trained import Trained
from aigc_cli.run.training import Training
from aigc_cli.run.validation import Validation
from aigc_cli.run.worth import first_batch_values, verdict


class Restore(pl.Callback):
    """Prepares the model once it is on its device, and puts a checkpoint's state back."""

    def __init__(
        self, recipe: Recipe, state: dict[str, Any] | None, max_steps: int, world: World
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


class Cadence(pl.Callback):
    """Calls the parts of a run when they are due.

    What a signal cuts short is listed in the checkpoint as pending, and a resumed run begins with
    it: so no step lacks its validation, and no signal waits for one.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        log: Log,
        validation: Validation,
        previews: Previews,
        checkpoints: Checkpoints,
        stop: Stop,
    ) -> None:
        self.progress, self.stop = progress, stop
        self.rows, self.validation, self.previews = log, validation, previews
        self.checkpoints = checkpoints
        self.parts = progress.settings.accumulate
        self.verdict: str | None = None
        """That the run ended far worse than it began, once it has ended."""

    def on_fit_start(self, trainer: pl.Trainer, module: Training) -> None:
        self.stop.listen(at_once=True)
        self.rows.open(trainer, module.step, self.validation.monitor)
        monitor = self.validation.monitor
        if self.progress.began is None and module.step == 0:
            with self._interruptible(trainer, module, []):
                values = first_batch_values(module.model, self.validation.loaders, monitor)
            if "" in values:
                self.progress.began = {"metric": monitor, "value": values[""]}
        if self.progress.pending:
            self._look(trainer, module, self.progress.pending)
            self._save_when_due(trainer, module, is_last=True)

    def on_train_start(self, trainer: pl.Trainer, module: Training) -> None:
        self.stop.listen()
        if module.step == 0:
            self._look(trainer, module, ["preview"])
        self.rows.begin()

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: Training, batch: Any, batch_idx: int
    ) -> None:
        self.rows.batch_came()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Training, outputs: Any, batch: Any, idx: int
    ) -> None:
        self.rows.add(trainer, module)
        self.rows.pause()
        self._say_parts(module)
        step, settings = module.step, self.progress.settings
        asked = self.stop.agreed()
        is_last = step >= self.progress.max_steps
        due = []
        if is_last or asked == TIME_IS_UP or step % settings.validate_every == 0:
            due.append("validation")
        if is_last or step % settings.preview_every == 0:
            due.append("preview")
        if asked > 0:
            self._interrupt(asked, trainer, module, due)
        self._look(trainer, module, due)
        if "validation" in due and not is_last and self.progress.out_of_patience(step):
            waited = f"{settings.patience} validations without a better"
            message = f"{waited} {self.validation.monitor}: ending"
            self.progress.emit({"event": "note", "message": message})
            is_last = True
        if asked == TIME_IS_UP or ("validation" in due and not is_last and self.progress.enough()):
            self.progress.status = "stopped"
            is_last = True
        self._save_when_due(trainer, module, is_last=is_last)
        trainer.should_stop |= is_last
        self.rows.resume()

    def _say_parts(self, module: Training) -> None:
        """Say once that steps take more parts than the recipe says, for want of memory."""
        parts = module.iteration.run.trainer.accumulate
        if parts != self.parts:
            message = (
                f"out of memory in step {module.step:,}: it was done again in {parts} parts, as "
                "all that follow; the batch is the same"
            )
            self.progress.emit({"event": "warning", "message": message, "accumulate": parts})
            self.parts = parts

    def on_train_end(self, trainer: pl.Trainer, module: Training) -> None:
        """See how the run ended, beside how it began."""
        monitor, began = self.validation.monitor, self.progress.began
        with self._interruptible(trainer, module, []):
            values = first_batch_values(
                module.model, self.validation.loaders, monitor, baselines=True
            )
        direction = module.model.metrics[monitor]
        self.verdict = verdict(monitor, direction, values, began["value"] if began else None)
        self.rows.close("finished")

    def on_exception(self, trainer: pl.Trainer, module: Training, exception: BaseException) -> None:
        stopped = isinstance(exception, (Interrupted, KeyboardInterrupt))
        self.rows.close("interrupted" if stopped else "failed")

    def _look(self, trainer: pl.Trainer, module: Training, due: list[str]) -> None:
        """Validate and show; what a signal cuts short is pending."""
        left = list(due)
        with self._interruptible(trainer, module, left):
            while left:
                if left[0] == "validation":
                    means = self.validation(trainer, module.model)
                    self.rows.validated(means, module.step)
                else:
                    path = self.previews(trainer, module.model)
                    if path is not None:
                        self.rows.previewed(path, module.step)
                left.pop(0)
        self.progress.pending = []
        if due and trainer.is_global_zero:
            self.progress.emit({"event": "phase", "phase": "training"})

    @contextmanager
    def _interruptible(
        self, trainer: pl.Trainer, module: Training, left: list[str]
    ) -> Iterator[None]:
        """Inside, a signal acts at once; what is in `left` is then pending."""
        try:
            with self.stop.at_once():
                yield
        except Interrupted as ending:
            self._interrupt(ending.signum, trainer, module, left)

    def _save_when_due(
        self, trainer: pl.Trainer, module: Training, *, is_last: bool = False
    ) -> None:
        best = self.progress.best
        is_best = best is not None and best["step"] == module.step
        every = self.progress.settings.checkpoint_every
        if is_last or is_best or module.step % every == 0:
            self.checkpoints.save(trainer, module)
        if is_best and trainer.is_global_zero:
            link_checkpoint(self.progress.folder.last, self.progress.folder.best)

    def _interrupt(
        self, number: int, trainer: pl.Trainer, module: Training, pending: list[str]
    ) -> NoReturn:
        """Save, and end by the signal."""
        self.progress.pending = pending
        self.progress.saved_step = -1  # what is pending is part of the state
        self.checkpoints.save(trainer, module)
        message = f"stopped by signal {number} after step {module.step}; the state is saved"
        if trainer.is_global_zero and (note := requeue()):
            message += f"; {note}"
        raise Interrupted(number, message)


class Checkpoints:
    """Writes last.ckpt."""

    def __init__(self, progress: Progress, collect: Callable[[], dict[str, Any]]) -> None:
        self.progress = progress
        self.collect = collect

    def save(self, trainer: pl.Trainer, module: Training) -> None:
        """Write last.ckpt unless this very step is in it; every process takes part, the first
        writes.
        """
        if self.progress.saved_step == module.step:
            return
        module.iteration.raise_if_diverged()
        state = self.collect()
        if trainer.is_global_zero:
            last = self.progress.folder.last
            save_checkpoint(state, last)
            self.progress.emit({"event": "checkpoint", "step": module.step, "path": str(last)})
        self.progress.saved_step = module.step


class Previews:
    """What the averaged model makes: the files of `aigc sample RUN --seed 0` in a folder for each
    such step, also before the first.
    """

    def __init__(self, progress: Progress, recipe: Recipe, items: Any) -> None:
        self.progress = progress
        self.recipe, self.items = recipe, items

    def __call__(self, trainer: pl.Trainer, model: GenerativeModule) -> Path | None:
        """The folder, on the process whose files stay; all make them, since sharded weights need
        every one.
        """
        self.progress.emit({"event": "phase", "phase": "preview"})
        folder = self.progress.folder.previews / f"step-{model.step:07d}"
        model.eval()
        try:
            with TemporaryDirectory() as elsewhere, model.averaged_weights():
                out = folder if trainer.is_global_zero else Path(elsewhere)
                trained = Trained(model, self.recipe, model.spec, step=model.step)
                with torch.autocast(model.device.type, enabled=False):
                    make(trained, Request(out, overwrite=True), items=self.items)
        finally:
            model.train()
        if not trainer.is_global_zero:
            return None
        self.progress.emit({"event": "sample", "step": model.step, "path": str(folder)})
        return folder
