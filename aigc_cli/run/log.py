"""Rows of metrics.jsonl, TensorBoard and other trackers: means of the loss terms, speed, and what
is unhealthy.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from aigc_cli.recipe.diff import flat
from aigc_cli.recipe.load import Recipe
from aigc_cli.run.progress import Event, Progress
from aigc_cli.run.trackers import Trackers
from aigc_cli.run.training import Training
from aigc_cli.run.worth import strange_start

SHOWN = 8  # files of a preview without a sheet that are put on the board


class Log:
    """Means since the last row, rate, share of time spent waiting for data, time left.

    samples: items of one step on all devices.
    """

    def __init__(self, progress: Progress, recipe: Recipe, samples: int) -> None:
        self.progress, self.recipe, self.samples = progress, recipe, samples
        self._board: Any = None
        self._trackers: Trackers | None = None
        self._unhealthy: set[str] = set()
        self._left_early = 0

    def open(self, trainer: pl.Trainer, step: int, monitor: str) -> None:
        """Begin after `step`; the first process writes.

        Raises:
            RunError: a tracker of the recipe cannot begin.
        """
        self._left_early = self.progress.settings.log_every
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            folder = str(self.progress.folder.tensorboard)
            self._board = SummaryWriter(folder, purge_step=step + 1)
            if step == 0:
                self._write_recipe(monitor)
            self._trackers = Trackers(self.progress.folder, self.recipe, self.progress.emit)

    def begin(self) -> None:
        """The first step comes now."""
        self._reset()
        self._batch_ended = self._begun

    def close(self, status: str) -> None:
        """The run is finished, failed or interrupted."""
        if self._board is not None:
            with suppress(OSError):  # a full disk is said once
                self._board.close()
            self._board = None
        if self._trackers is not None:
            self._trackers.end(status)
            self._trackers = None

    def batch_came(self) -> None:
        self._waited += time.perf_counter() - self._batch_ended

    def add(self, trainer: pl.Trainer, module: Training) -> None:
        """Count a step, and write a row when one is due."""
        for name, value in module.iteration.terms.items():
            self._sums[name] = self._sums.get(name, 0) + value
        self._steps += 1
        step = module.step
        if trainer.is_global_zero:
            self.progress.emit({"event": "tick", "step": step, **self._early(module)})
        if step % self.progress.settings.log_every == 0 or step == self.progress.max_steps:
            self._row(trainer, module)

    def pause(self) -> None:
        """Validation, previews and checkpoints come: they are neither training nor waiting."""
        self._paused = time.perf_counter()

    def resume(self) -> None:
        self._batch_ended = time.perf_counter()
        self._begun += self._batch_ended - self._paused

    def validated(self, means: dict[str, float], step: int) -> None:
        values = {f"val/{name}": value for name, value in means.items()}
        self._write(values, {"event": "val", "step": step, **values})

    def previewed(self, path: Path, step: int) -> None:
        """Put what a preview wrote on the board: a sheet or a few images, sounds, texts."""
        if self._board is None:
            return
        files = [file for file in sorted(path.iterdir()) if not file.name.startswith(".")]
        images = [file for file in files if file.suffix in (".png", ".jpg")]
        for file in [file for file in images if file.stem == "grid"] or images[:SHOWN]:
            from aigc_cli.media.image import read_image

            pixels = read_image(file).as_bits(8).as_channels(3).pixels  # (H, W, 3)
            self._board.add_image(f"preview/{file.stem}", pixels, step, dataformats="HWC")
        for file in [file for file in files if file.suffix == ".wav"][:SHOWN]:
            from aigc_cli.media.audio import read_audio

            sound = read_audio(file.read_bytes(), file.name)  # samples (T,) in [-1, 1]
            if len(sound.samples) > 1:
                rate = sound.sample_rate
                self._board.add_audio(f"preview/{file.stem}", sound.samples, step, rate)
        for file in [file for file in files if file.suffix == ".txt"][:SHOWN]:
            self._board.add_text(f"preview/{file.stem}", _as_markdown(file), step)

    def _early(self, module: Training) -> dict[str, float]:
        """The loss of the first steps, so that nobody waits for the first row: of every step on a
        CPU, where reading it costs nothing.
        """
        self._left_early -= 1
        first = next(iter(module.iteration.terms.values()), None)
        if self._left_early < 0 or first is None or first.device.type != "cpu":
            return {}
        return {"loss": float(module.iteration.terms.get("loss", first))}

    def _row(self, trainer: pl.Trainer, module: Training) -> None:
        module.iteration.raise_if_diverged()
        names = sorted(self._sums)
        means = torch.stack([torch.as_tensor(self._sums[name]).float() for name in names])
        means = means / self._steps
        if trainer.world_size > 1:
            means = means.to(module.device)
            dist.all_reduce(means)
            means = means / trainer.world_size
        seconds = time.perf_counter() - self._begun
        if trainer.is_global_zero:
            losses = dict(zip(names, means.tolist(), strict=True))
            speed = {
                "samples_per_s": round(self._steps * self.samples / seconds, 2),
                "data_wait": round(self._waited / seconds, 4),
            }
            row = {f"train/{name}": value for name, value in losses.items()}
            row["lr"] = trainer.optimizers[-1].param_groups[0]["lr"]
            left = (self.progress.max_steps - module.step) * seconds / self._steps
            event = {"event": "step", "step": module.step, **row, **speed, "eta_s": round(left)}
            failures = module.model.health(losses)
            if failures:
                event["health"] = failures
            self.progress.folder.append(event)
            self._write({**row, **speed}, event)
            self.progress.emit(event)
            self._warn(failures, module.step)
            self._doubt(losses, module.step)
        self._reset()

    def _doubt(self, losses: dict[str, float], step: int) -> None:
        """Of the first row of a run that starts from trained weights: whether they bear it."""
        began, first = self.progress.began, step <= self.progress.settings.log_every
        if self.recipe.init_from is None or began is None or began["metric"] != "loss":
            return
        if first and (message := strange_start(losses.get("loss", 0.0), began["value"], step)):
            self.progress.emit({"event": "warning", "message": message})

    def _warn(self, failures: list[str], step: int) -> None:
        """Say at once what the row before did not show yet, and count every row that shows it."""
        self.progress.warnings.update(failures)
        for name in failures:
            if name not in self._unhealthy:
                message = f"step {step:,}: {name}"
                self.progress.emit({"event": "warning", "message": message, "health": name})
        self._unhealthy = set(failures)

    def _write_recipe(self, monitor: str) -> None:
        """Every value of the recipe as a hyper-parameter, by which TensorBoard compares runs."""
        from torch.utils.tensorboard.summary import hparams

        plain = {
            key: value if isinstance(value, (bool, int, float)) else str(value)
            for key, value in flat(self.recipe.as_dict())
            if value is not None
        }
        for summary in hparams(plain, {f"val/{monitor}": 0.0}):
            self._board.file_writer.add_summary(summary)

    def _write(self, values: dict[str, float], event: Event) -> None:
        """Scalars, and the row of metrics.jsonl that has them."""
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, event["step"])
        if self._trackers is not None:
            self._trackers.follow([event])

    def _reset(self) -> None:
        self._sums: dict[str, Tensor | int] = {}
        self._steps = 0
        self._waited = 0.0
        self._begun = time.perf_counter()


def _as_markdown(file: Path) -> str:
    return "\n".join(f"    {line}" for line in file.read_text(encoding="utf-8").splitlines())
