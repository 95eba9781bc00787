"""Steps and validation batches in memory alone: what `aigc train --dry-run` tries, and what
`aigc train --budget` times.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from aigc_cli.data._data import DataSource
from aigc_cli.models._base import Batch, GenerativeModule, Run
from aigc_cli.recipe.load import Recipe
from aigc_cli.run import devices
from aigc_cli.run.build import attach_networks
from aigc_cli.run.failures import expected_failures
from aigc_cli.run.iteration import Iteration
from aigc_cli.run.loaders import Loaders
from aigc_cli.run.validation import evaluated
from aigc_cli.run.weights import load_initial

MANY = 1 << 20  # steps; nobody rehearses so many


class Rehearsal:
    """A model at the beginning of a run, with one accumulated part of a device's `share`."""

    def __init__(
        self, recipe: Recipe, data: DataSource, model: GenerativeModule, share: int
    ) -> None:
        trainer = recipe.trainer
        part = share // trainer.accumulate
        attach_networks(model, recipe)
        if recipe.init_from is not None:
            load_initial(model, recipe.init_from, recipe.bases)
        self.recipe, self.model = recipe, model
        self.device = devices.choose_device(trainer.device)
        small = trainer.model_copy(update={"global_batch": part, "accumulate": 1})
        self.loaders = Loaders(
            recipe, data, model, share=part, world=devices.World(), max_steps=MANY
        )
        if trainer.channels_last:
            model.to(memory_format=torch.channels_last)
        model.to(self.device).train()
        model.prepare(Run(small, recipe.seed, max_steps=MANY))
        made = model.configure_optimizers()
        optimizers = made if isinstance(made, list) else [made]
        self._iteration = Iteration(model, optimizers, autocast=devices.autocast(trainer))
        self._batches: Iterator[Batch] = iter(self.loaders.train_dataloader())

    def step(self) -> None:
        """Everything that a step of the run does."""
        batch = next(self._batches)
        self._iteration({name: value.to(self.device) for name, value in batch.items()})
        self._iteration.raise_if_diverged()

    def validate(self) -> int:
        """One validation batch; how many there are."""
        loader = self.loaders.validation()
        self.model.eval().start_means()
        with torch.no_grad():
            evaluated(self.model, next(iter(loader)))
        self.model.train()
        return len(loader)


@contextmanager
def rehearsing(
    recipe: Recipe, data: DataSource, model: GenerativeModule, share: int
) -> Iterator[Rehearsal]:
    """Inside, a rehearsal on this device alone. The model is not the same afterwards.

    Raises: as `train` before and in its first step.
    """
    try:
        with expected_failures(recipe):
            yield Rehearsal(recipe, data, model, share)
    finally:
        data.stop_background()


def rehearse(recipe: Recipe, data: DataSource, model: GenerativeModule, share: int) -> None:
    """The first step of a run, then one validation batch. Raises as `rehearsing`."""
    with rehearsing(recipe, data, model, share) as rehearsal:
        rehearsal.step()
        rehearsal.validate()
