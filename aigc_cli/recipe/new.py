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

    The data kind looks at the source with its function `fit(config, bases=...)`, which returns
    values that suit it, by key, each with its reason. Overridden keys stay as they are.

    Raises:
        InputError: the family is unknown, takes several kinds of data, or an override is wrong.
        DataError: the data cannot be used.
    """
    overrides = list(overrides)
    kind = kind or _only_kind(family)
    module = registry.load_data_kind(kind)
    first = next(name for name, f in module.Config.model_fields.items() if f.is_required())
    plain: dict[str, Any] = {
        "family": family,
        "data": {"kind": kind, first: source},
        "trainer": {"max_steps": STEPS},
    }
    recipe = recipe_from_dict(plain, overrides=overrides)
    given = {override.partition("=")[0] for override in overrides}
    reasons = {
        "trainer.max_steps": "a first guess; `aigc plan` says how long it takes",
        "trainer.global_batch": "items in one step",
    }
    resolved = recipe.as_dict()
    for key, (value, reason) in module.fit(recipe.data, bases=recipe.bases).items():
        if f"data.{key}" not in given:
            resolved["data"][key] = value
            reasons[f"data.{key}"] = reason
    shown = {"family", "seed", "data.kind", f"data.{first}", "model", *given, *reasons}
    return _text(recipe_from_dict(resolved), shown, reasons)


def _only_kind(family: str) -> str:
    """The data kind of the family, if there is one and no other."""
    accepted = [spec.kind for spec in registry.load_family(family).Model.accepts]
    kinds = [kind for kind in registry.data_kinds() if kind in accepted]
    if len(kinds) == 1:
        return kinds[0]
    raise InputError(f"say with --kind what the data is: {', '.join(kinds) or 'none fits'}")


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
