"""The first step and a validation batch in memory alone: what `aigc train --dry-run` tries."""

from __future__ import annotations

import torch

from aigc_cli.data._data import DataSource
from aigc_cli.models._base import GenerativeModule, Run
from aigc_cli.recipe.load import Recipe
from aigc_cli.run import devices
from aigc_cli.run.build import attach_networks
from aigc_cli.run.failures import expected_failures
from aigc_cli.run.iteration import Iteration
from aigc_cli.run.loaders import Loaders
from aigc_cli.run.validation import evaluated
from aigc_cli.run.weights import load_initial


def rehearse(recipe: Recipe, data: DataSource, model: GenerativeModule, share: int) -> None:
    """Everything that the first step of a run does, with one accumulated part of a device's
    `share`, on this device alone; then one validation batch. The model is not the same afterwards.

    Raises: as `train` before and in its first step.
    """
    trainer = recipe.trainer
    part = share // trainer.accumulate
    attach_networks(model, recipe)
    if recipe.init_from is not None:
        load_initial(model, recipe.init_from, recipe.bases)
    device = devices.choose_device(trainer.device)
    small = trainer.model_copy(update={"global_batch": part, "accumulate": 1})
    loaders = Loaders(recipe, data, model, share=part, world=devices.World(), max_steps=1)
    try:
        with expected_failures(recipe):
            model.to(device).train()
            model.prepare(Run(small, recipe.seed, max_steps=1))
            made = model.configure_optimizers()
            optimizers = made if isinstance(made, list) else [made]
            batch = next(iter(loaders.train_dataloader()))
            step = Iteration(model, optimizers, autocast=devices.autocast(trainer))
            step({name: value.to(device) for name, value in batch.items()})
            step.raise_if_diverged()
            batch = next(iter(loaders.validation()))
            with torch.no_grad():
                model.eval().start_means()
                evaluated(model, batch)
    finally:
        data.stop_background()
