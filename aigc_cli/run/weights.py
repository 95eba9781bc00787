"""Weights of a checkpoint or of another model: whether they fit, and how they are put in."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aigc_cli.catalog.weights import is_model
from aigc_cli.errors import CheckpointError, InputError, Problem, RecipeError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.models.text._network import NetworkConfig, sizes
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.run.base import describe_base, digest_of, open_initial

SHOWN = 3  # names of tensors in a message

log = logging.getLogger(__name__)


def require_fit(model: torch.nn.Module, state: dict[str, Any], path: Path) -> None:
    """See that a checkpoint's weights are exactly the model's: nothing missing, nothing left over.

    Raises:
        CheckpointError: names the first tensor that differs, with both shapes.
    """
    own, averaged = model.state_dict(), state["ema"] or {}
    for theirs, keys in ((state["weights"], own.keys()), (averaged, own.keys() & averaged.keys())):
        for key in sorted(keys | theirs.keys()):
            here = tuple(own[key].shape) if key in own else "absent"
            there = tuple(theirs[key].shape) if key in theirs else "absent"
            if here != there:
                raise CheckpointError(
                    f"{path}: does not fit the model: '{key}' is {there} there and {here} here",
                    code="checkpoint.mismatch",
                )


def load_averaged(model: GenerativeModule, state: dict[str, Any], *, ema: bool) -> None:
    """Weights for sampling: the moving average where one was kept and `ema` asks for it."""
    average = state["ema"] if ema else None
    model.load_state_dict({**state["weights"], **(average or {})})


def complete(recipe: Recipe) -> Recipe:
    """A recipe whose network and tokenizer are those of the model that it starts from, where it
    does not say them itself.

    Raises:
        InputError: as `open_initial`, or that model has no such network. RecipeError: the recipe
            says a size, and it is another there.
    """
    config = recipe.model
    if recipe.init_from is None or not isinstance(config, NetworkConfig):
        return recipe
    initial = open_initial(recipe.init_from, recipe.bases)
    fields = NetworkConfig.model_fields.keys()
    if not fields <= initial.sizes.keys():
        raise InputError(
            f"init_from: {initial.path} is of family {initial.family}, which has another network "
            f"than {recipe.family}"
        )
    theirs = sizes(NetworkConfig(**{name: initial.sizes[name] for name in fields}))
    ours, given = sizes(config), config.model_fields_set & fields
    # Dropout belongs to the training, but weights that never met any do not bear it: a Llama of 30
    # blocks has a loss of 6.6 with a tenth and 1.9 without.
    free: set[str] = set() if initial.imported else {"dropout"}
    problems = [
        Problem(
            f"{ours[name]!r}, but {theirs[name]!r} in {initial.path}",
            file=str(recipe.path) if recipe.path else None,
            key=f"model.{name}",
            hint="leave it out: init_from decides",
        )
        for name in sorted(given - {"dropout"})
        if ours[name] != theirs[name]
    ]
    if problems:
        raise RecipeError(problems)
    data = recipe.as_dict()
    data["model"] |= {name: theirs[name] for name in fields - (given & free)}
    if "tokenizer" not in recipe.data.model_fields_set:
        known = is_model(recipe.init_from)
        data["data"]["tokenizer"]["from"] = str(initial.path) if known else recipe.init_from
    template = getattr(initial.spec, "template", None)
    if template and "template" in data["data"] and "template" not in recipe.data.model_fields_set:
        data["data"]["template"] = template
    return recipe_from_dict(data, recipe.path)


def load_initial(model: GenerativeModule, source: str, bases: Sequence[Path]) -> str:
    """Start from another model's weights where names and shapes agree; says what was taken.

    Raises:
        InputError: nothing fits, or there is no such model.
    """
    initial = open_initial(source, bases)
    own = model.state_dict()
    weights = model.initial(initial.weights, initial.spec)
    fitting = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    begun = {key.split(".")[0] for key in fitting}  # a network of which nothing fits is one name
    names = {key: key.split(".")[0] for key in own.keys() - fitting.keys()}
    left = sorted({key if name in begun else name for key, name in names.items()})
    if not fitting:
        raise InputError(
            f"init_from: nothing in {initial.path}, family {initial.family}, fits this model",
            hint="name a checkpoint of the same family and size",
        )
    model.load_state_dict(fitting, strict=False)
    model.base = describe_base(source, initial, fitting, model.unchanged)
    message = f"init_from: {len(fitting)} of {len(own)} tensors from {initial.path}"
    if initial.imported and isinstance(model.config, NetworkConfig):
        message += f", with their dropout of {model.config.dropout:g}"
    if not left:
        return message
    log.debug("init_from: from scratch: %s", ", ".join(left))
    shown = ", ".join(left) if len(left) <= SHOWN else f"{len(left)}, such as {left[0]}"
    return f"{message}; from scratch: {shown}"


def weights_digest(model: nn.Module) -> str:
    """Of all weights and buffers, as `digest_of`."""
    return digest_of(model.state_dict())
