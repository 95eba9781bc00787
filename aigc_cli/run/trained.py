"""A trained model, ready to sample: rebuilt from nothing but its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.run.checkpoint import file_digest, load_checkpoint
from aigc_cli.run.devices import choose_device
from aigc_cli.run.folder import find_checkpoint
from aigc_cli.run.train import build_model
from aigc_cli.run.weights import load_averaged, require_fit
from aigc_cli.specs import Spec, spec_from_dict


@dataclass(frozen=True)
class Trained:
    """Model in evaluation mode on its device, and where it came from."""

    model: GenerativeModule
    recipe: Recipe
    spec: Spec
    checkpoint: Path
    step: int
    digest: str
    ema: bool

    def describe(self) -> dict[str, Any]:
        """For samples.json and results: which weights made this."""
        return {
            "checkpoint": str(self.checkpoint),
            "sha256": self.digest,
            "step": self.step,
            "ema": self.ema,
            "family": self.recipe.family,
            "recipe": self.recipe.name,
        }


def load_trained(
    source: str, overrides: Sequence[str] = (), *, device: str = "auto", ema: bool = True
) -> Trained:
    """Load a run, a checkpoint file or a recipe's newest run.

    Raises:
        InputError: no such run. CheckpointError: damaged, foreign or unsafe. RecipeError: wrong
        overrides.
    """
    path = find_checkpoint(source)
    state = load_checkpoint(path)
    recipe_path = Path(state["recipe_path"]) if state["recipe_path"] else None
    recipe = recipe_from_dict(state["recipe"], recipe_path, overrides)
    spec = spec_from_dict(state["spec"])
    model = build_model(recipe, spec)
    require_fit(model, state, path)
    load_averaged(model, state, ema=ema)
    model.to(choose_device(device)).eval()
    return Trained(
        model,
        recipe,
        spec,
        path,
        state["step"],
        file_digest(path),
        ema and state["ema"] is not None,
    )
