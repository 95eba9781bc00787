"""A trained model, ready to sample: rebuilt from nothing but its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aigc_cli.errors import InputError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.models._text import TextModule
from aigc_cli.nn.precision import multiplies_bf16
from aigc_cli.recipe.load import Recipe, load_recipe, recipe_from_dict
from aigc_cli.run.base import load_whole
from aigc_cli.run.build import attach_networks, build_model
from aigc_cli.run.checkpoint import file_digest
from aigc_cli.run.devices import choose_device
from aigc_cli.run.paths import RUNS, find_checkpoint
from aigc_cli.run.published import ENDINGS
from aigc_cli.run.super_resolver import open_super_resolver
from aigc_cli.run.weights import load_averaged, require_fit, weights_digest
from aigc_cli.sampling.decoding import Decoding
from aigc_cli.specs import Spec, spec_from_dict
from aigc_cli.specs.image import AnyImageSpec


@dataclass(frozen=True)
class Trained:
    """Model in evaluation mode on its device, and where it came from: a checkpoint, or a recipe
    whose family needs no training.
    """

    model: GenerativeModule
    recipe: Recipe
    spec: Spec
    checkpoint: Path | None = None
    step: int = 0
    digest: str | None = None
    ema: bool = False
    dtype: str | None = None
    """Of the weights that write texts."""
    known_weights: str | None = None
    """Their digest, where it was computed before: it takes a second for a large model."""

    @property
    def weights(self) -> str:
        """Digest of the weights in use: the same in training and out of its checkpoint."""
        return self.known_weights or weights_digest(self.model)

    def describe(self) -> dict[str, Any]:
        """For samples.json and results: which weights made this."""
        stamps = {name: network.stamp for name, network in self.model.frozen_networks.items()}
        return {
            "checkpoint": str(self.checkpoint) if self.checkpoint else None,
            "sha256": self.digest,
            "step": self.step,
            "ema": self.ema,
            **({} if self.dtype is None else {"dtype": self.dtype}),
            "family": self.recipe.family,
            "recipe": self.recipe.name,
            "features": stamps.get("features"),
            "classifier": stamps.get("judge"),
        }


def load_trained(
    source: str, overrides: Sequence[str] = (), *, device: str = "auto", ema: bool = True
) -> Trained:
    """Load a run, a checkpoint file or a recipe's newest run, or build what needs no training.

    `overrides` are options of the family; those of a recipe may also begin with `model.`.

    Raises:
        InputError: no such run. CheckpointError: damaged, foreign or unsafe. RecipeError: wrong
        overrides.
    """
    options = [text if text.startswith("model.") else f"sample.{text}" for text in overrides]
    if (recipe := _untrained(source, options)) is not None:
        spec: Spec = AnyImageSpec(channels=3)
        model = build_model(recipe, spec)
        attach_networks(model, recipe)
        return Trained(model.to(choose_device(device)).eval(), recipe, spec)
    path = find_checkpoint(source)
    if path.suffix in ENDINGS:
        other, recipe, spec = open_super_resolver(path, options)
        other.to(choose_device(device)).eval()
        return Trained(other, recipe, spec, path, digest=file_digest(path))
    state = load_whole(path)
    recipe_path = Path(state["recipe_path"]) if state["recipe_path"] else None
    for text in options:
        if text.startswith("model."):
            raise InputError(f"{text}: the model of a checkpoint cannot be changed")
    recipe = recipe_from_dict(state["recipe"], recipe_path, options)
    spec = spec_from_dict(state["spec"])
    model = build_model(recipe, spec)
    require_fit(model, state, path)
    load_averaged(model, state, ema=ema)
    attach_networks(model, recipe, state)
    device = choose_device(device)
    model.to(device).eval()
    averaged = ema and state["ema"] is not None
    dtype = None
    if isinstance(model, TextModule) and isinstance(recipe.sample, Decoding):
        half = any(value.dtype == torch.bfloat16 for value in state["weights"].values())
        half = half and multiplies_bf16(device)
        dtype = model.prepare_to_write(recipe.sample, half=half)
    return Trained(model, recipe, spec, path, state["step"], file_digest(path), averaged, dtype)


def _untrained(source: str, overrides: Sequence[str]) -> Recipe | None:
    """The recipe that `source` names, if its family needs no training; a run of the name wins."""
    path = Path(source)
    if (path.exists() and path.suffix not in (".yaml", ".yml")) or (RUNS / path).is_dir():
        return None
    try:
        is_trained = load_recipe(source).is_trained
    except InputError:
        if path.suffix in (".yaml", ".yml"):
            raise
        return None  # what it is not is said by whoever looks for a run
    if is_trained:
        raise InputError(
            f"there is no run of '{source}' in {RUNS}/, and it needs training",
            hint=f"aigc train {source}",
        )
    return load_recipe(source, overrides)
