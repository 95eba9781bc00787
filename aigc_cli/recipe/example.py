"""The smallest experiment of a family: a tiny network on a few real files that are written for it.

What `aigc model check` and the tests over all families train. Its files come from `example(folder)`
of the kind of data, the sizes of the network and of sampling from `TINY` of the family's sections.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import InputError
from aigc_cli.recipe.load import Recipe, recipe_from_dict

TRAINER: dict[str, Any] = {
    "max_steps": 3,
    "global_batch": 2,
    "ema": 0.9,
    "log_every": 1,
    "validate_every": 3,
    "checkpoint_every": 1,
    "preview_every": 3,
    "precision": "fp32",
    "device": "cpu",
}


def example_kind(family: ModuleType) -> str | None:
    """The first kind of data that the family takes and that has an example; None without training.

    Raises:
        InputError: none of its kinds has one.
    """
    model = family.Model
    if model.training_free:
        return None
    kinds = [str(spec.kind) for spec in model.accepts]
    known = registry.data_kinds()
    for kind in kinds:
        if kind in known and hasattr(registry.load_data_kind(kind), "example"):
            return kind
    raise InputError(
        f"{family.__file__}: no kind of data that the family takes has example(folder): "
        f"{', '.join(kinds)}",
        hint="write it in the kind's file, see docs/design.md",
    )


def example_recipe(family: str, folder: Path, **trainer: Any) -> Recipe:
    """A recipe of three steps; the files of its data are written below `folder`.

    `trainer` are other values of that section.

    Raises:
        InputError: the family is unknown, or as `example_kind`.
        RecipeError: what the family or the kind say of themselves is no recipe.
    """
    module = registry.load_family(family)
    kind = example_kind(module)
    recipe: dict[str, Any] = {
        "family": family,
        "seed": 3,
        "model": dict(module.Config.TINY),
        "sample": dict(module.Options.TINY),
    }
    if kind is not None:
        folder.mkdir(parents=True, exist_ok=True)
        recipe["data"] = registry.load_data_kind(kind).example(folder)
        recipe["trainer"] = {**TRAINER, **trainer}
    return recipe_from_dict(recipe)
