"""From a recipe to what trains and samples: its data, model, frozen networks and length."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch

from aigc_cli.data._data import DataSource, require_source
from aigc_cli.data._domains import all_gray
from aigc_cli.errors import (
    DataError,
    InputError,
    Problem,
    RecipeError,
    did_you_mean,
    within_memory,
)
from aigc_cli.models._base import GenerativeModule
from aigc_cli.models._contract import require_contract, require_networks
from aigc_cli.recipe.load import Recipe
from aigc_cli.registry import load_data_kind, load_family
from aigc_cli.specs import Spec


@cache
def freeze_imports() -> None:
    """What imports made stays for ever, so the garbage collector need not look through it again: it
    is half of the time of opening a large data set. Once a process, since what a later call froze
    would never be freed.
    """
    gc.freeze()
    atexit.register(gc.unfreeze)  # or bindings take what is never freed for leaks, and say so


def build(recipe: Recipe) -> tuple[DataSource, GenerativeModule]:
    """The checked data and the model it asks for.

    Raises:
        DataError: files that cannot be used.
        RecipeError: the family does not accept this kind of data.
    """
    kind = load_data_kind(recipe.kind)
    freeze_imports()
    data: DataSource = kind.Data(recipe.data, seed=recipe.seed, bases=recipe.bases)
    require_source(data)
    try:
        model = build_model(recipe, data.spec)
    except InputError as error:
        if error.code == "unlabeled":  # the data knows which file is the cause
            error.hint = getattr(data, "unlabeled", None) or error.hint
        raise
    if model.needs_color and all_gray(list(data.report["data.train"].seen.values())):
        raise DataError(
            "data.train: gray images for a color recipe", hint="name photographs in color"
        )
    return data, model


def build_model(recipe: Recipe, spec: Spec) -> GenerativeModule:
    """The recipe's network with its initial weights, a pure function of recipe.seed.

    Raises:
        InputError: the family's file breaks its contract.
        RecipeError: the family does not accept this kind of data.
    """
    family = load_family(recipe.family)
    accepts = require_contract(family).accepts
    if not isinstance(spec, accepts):
        fitting = ", ".join(s.kind for s in accepts)
        raise RecipeError(
            [
                Problem(
                    f"data kind '{spec.kind}' does not fit family '{recipe.family}'",
                    file=str(recipe.path) if recipe.path else None,
                    key="data.kind",
                    hint=f"kinds that fit: {fitting}",
                    code="recipe.mismatch",
                )
            ]
        )
    torch.manual_seed(recipe.seed)
    with within_memory("make the network smaller: see model. in the recipe"):
        model: GenerativeModule = family.Model(recipe.model, spec)
    require_networks(family, model)
    return model


def attach_networks(
    model: GenerativeModule, recipe: Recipe, state: dict[str, Any] | None = None
) -> None:
    """Give the model the frozen networks that its recipe names, or those in its checkpoint.

    Raises: as `open_features` and `open_judge`.
    """
    for name, field in model.frozen.items():
        opened, restored = _opening(name, model.takes or model.makes)
        if state is not None:
            if state.get(name) is not None:
                setattr(model, name, restored(state[name]))
        elif (text := getattr(recipe.model, field, "none")) != "none":
            setattr(model, name, opened(text, recipe.bases))


def _opening(name: str, modality: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """How a frozen network is opened by the text that names it, and restored from its state."""
    if name == "features":
        from aigc_cli.nn.features import FeatureNetwork
        from aigc_cli.run.features import open_features

        return open_features, FeatureNetwork.from_state
    from aigc_cli.run.judge import open_judge, restored

    return partial(open_judge, of=modality), restored


def count_steps(recipe: Recipe, items: int, batches: int = 1) -> int:
    """Length of the run in steps of `batches` batches."""
    trainer = recipe.trainer
    if trainer.max_steps is not None:
        return trainer.max_steps
    assert trainer.max_epochs is not None
    return -(-trainer.max_epochs * items // (trainer.global_batch * batches))


def check_monitor(recipe: Recipe, model: GenerativeModule) -> str:
    """The metric that chooses the best checkpoint.

    Raises:
        RecipeError: the family has no validation metric of that name.
    """
    monitor = recipe.trainer.monitor or next(iter(model.metrics))
    if monitor not in model.metrics:
        raise RecipeError(
            [
                Problem(
                    f"family '{recipe.family}' has no validation metric '{monitor}'",
                    file=str(recipe.path) if recipe.path else None,
                    key="trainer.monitor",
                    hint=did_you_mean(monitor, model.metrics),
                )
            ]
        )
    return monitor
