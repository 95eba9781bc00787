"""A first recipe for somebody's own data: what is in it decides what the recipe says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import getitem
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import InputError
from aigc_cli.recipe.keys import keys
from aigc_cli.recipe.load import Recipe, recipe_from_dict
from aigc_cli.recipe.sections import Section
from aigc_cli.recipe.write import to_yaml

EPOCHS = 100
STEPS = 1_000, 20_000
"""Fewest and most; between them EPOCHS passes over the data."""
FEW_TOKENS, FEW_ITEMS = 500_000, 2_000
"""Below, `FEW` of the family's config holds, where it is made for texts or for other things."""


def new_recipe(
    family: str, source: str, *, kind: str | None = None, overrides: Iterable[str] = ()
) -> str:
    """The text of a recipe that trains `family` on `source`, with every key of its model.

    The first required key of a data kind names the source. Its function `fit(config, bases=...)`
    looks at the source and returns values that suit it, by key, each with its reason; length,
    batch and width follow from how much there is. Overridden keys stay as they are.

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
            "trainer": {} if "trainer.max_epochs" in given else {"max_steps": STEPS[1]},
        },
        overrides=overrides,
    )
    resolved, reasons = recipe.as_dict(), dict[str, str]()

    def suggest(section: str, found: Mapping[str, tuple[Any, str]]) -> None:
        for name, (value, reason) in found.items():
            key = f"{section}.{name}"
            if key not in given and key.rpartition(".")[0] not in given:
                *parents, last = key.split(".")
                reduce(getitem, parents, resolved)[last] = value
                reasons[key] = reason

    kind_module = registry.load_data_kind(recipe.kind)  # an override may have changed the kind
    suggest("data", kind_module.fit(recipe.data, bases=recipe.bases))
    fitted = recipe_from_dict(resolved)
    data = kind_module.Data(fitted.data, seed=fitted.seed, bases=recipe.bases)
    suggest("trainer", _length(len(data.train), fitted.trainer.global_batch, given))
    suggest("model", _width(registry.load_family(family).Config, data))
    shown = {"family", "seed", "data.kind", f"data.{first}", "model", *given, *reasons}
    return _text(recipe_from_dict(resolved), shown, reasons)


def _length(items: int, usual_batch: int, given: set[str]) -> dict[str, tuple[Any, str]]:
    """Batch, steps and how often to look, for so many training items."""
    batch = min(usual_batch, 1 << (items.bit_length() - 1))
    if "trainer.global_batch" in given:
        batch = usual_batch
    steps = max(STEPS[0], min(STEPS[1], items * EPOCHS // batch // 100 * 100))
    passes = steps * batch / items
    found: dict[str, tuple[Any, str]] = {
        "global_batch": (batch, "Images, texts or other items in one step."),
    }
    if "trainer.max_epochs" not in given:
        found["max_steps"] = (
            steps,
            f"{passes:,.0f} passes over {items:,} training items; `aigc plan` says how long it "
            "takes.",
        )
        often = max(1, steps // 20)
        found["validate_every"] = (often, "20 times; the best of them becomes best.ckpt.")
        found["checkpoint_every"] = (often, "So much is lost at most when the machine fails.")
        found["preview_every"] = (max(1, steps // 10), "What it makes by then, in previews/.")
    return found


def _width(config: type[Section], data: Any) -> dict[str, tuple[Any, str]]:
    """What the family sets where there is little data."""
    tokens = getattr(data.report.get("data.train"), "tokens", None)
    few = len(data.train) < FEW_ITEMS if tokens is None else tokens < FEW_TOKENS
    what = f"{len(data.train):,} items" if tokens is None else f"{tokens:,} tokens"
    docs = {name: field.description or "" for name, field in config.model_fields.items()}
    return {
        name: (value, f"{docs[name]} For {what}; the default suits more.")
        for name, value in (config.FEW.items() if few else ())
    }


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
