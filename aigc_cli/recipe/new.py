"""A first recipe for somebody's own data: what is in it decides what the recipe says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import InputError
from aigc_cli.recipe.keys import keys
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.recipe.write import to_yaml

STEPS = 20_000


def new_recipe(
    family: str, source: str, *, kind: str | None = None, overrides: Iterable[str] = ()
) -> str:
    """The text of a recipe that trains `family` on `source`, with every key of its model.

    The first required key of a data kind names the source. Its function `fit(config, bases=...)`
    looks at the source and returns values that suit it, by key, each with its reason. Overridden
    keys stay as they are.

    Raises:
        InputError: the family is unknown or does not take this data, or an override is wrong.
        DataError: the data cannot be used.
    """
    overrides = list(overrides)
    given = {override.partition("=")[0] for override in overrides}
    kind = _kind_for(family, kind)
    module = registry.load_data_kind(kind)
    required = [name for name, f in module.Config.model_fields.items() if f.is_required()]
    first = next(name for name in required if name != "kind")
    recipe = recipe_from_dict(
        {
            "family": family,
            "data": {"kind": kind, first: source},
            "trainer": {} if "trainer.max_epochs" in given else {"max_steps": STEPS},
        },
        overrides=overrides,
    )
    reasons = {"trainer.global_batch": "Pictures, texts or other items in one step."}
    if recipe.trainer.max_steps == STEPS:
        reasons["trainer.max_steps"] = "A first guess; `aigc plan` says how long it takes."
    resolved = recipe.as_dict()
    fit = registry.load_data_kind(recipe.kind).fit  # an override may have changed the kind
    for key, (value, reason) in fit(recipe.data, bases=recipe.bases).items():
        if f"data.{key}" not in given:
            resolved["data"][key] = value
            reasons[f"data.{key}"] = reason
    shown = {"family", "seed", "data.kind", f"data.{first}", "model", *given, *reasons}
    return _text(recipe_from_dict(resolved), shown, reasons)


def _kind_for(family: str, kind: str | None) -> str:
    """The kind of data that is wanted, or the only one that the family takes."""
    accepted = {str(spec.kind) for spec in registry.load_family(family).Model.accepts}
    fitting = sorted(accepted & set(registry.data_kinds()))
    if kind is None and len(fitting) == 1:
        return fitting[0]
    if kind in fitting:
        return str(kind)
    what = f"'{kind}' is no data for family '{family}'" if kind else "what kind of data is it?"
    raise InputError(what, hint=f"choose with --kind from: {', '.join(fitting)}")


def _text(recipe: Recipe, shown: set[str], reasons: Mapping[str, str]) -> str:
    """The keys in `shown`, each with its reason or, in the model, its documentation above it."""
    docs = {key.key: key.doc for key in keys(type(recipe)) if key.key.startswith("model.")}
    return to_yaml(_only(recipe.as_dict(), shown), docs | dict(reasons))


def _only(data: Mapping[str, Any], shown: set[str], prefix: str = "") -> dict[str, Any]:
    """The part of the data whose dotted keys, or whose parents, are in `shown`."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if prefix + key in shown:
            kept[key] = value
        elif isinstance(value, Mapping) and (inner := _only(value, shown, f"{prefix}{key}.")):
            kept[key] = inner
    return kept
