"""A first recipe for somebody's own data: what is in it decides what the recipe says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


class Draft:
    """A recipe that is being written: its values, and why each that is shown has its value.

    `data` are values of its section `data`, the source among them, `sections` those of others, and
    `given` keys that the user has set: those stay as they are. `suggest(config, bases=...)` of a
    kind of data looks at the source and returns values that suit it, by key, each with its reason;
    so it is done here, and what `most` says of numbers in `data` holds for what it finds, too.
    `complete` adds what follows from `init_from`, such as a tokenizer.

    Raises:
        InputError: the family is unknown, or an override is wrong. DataError: the data cannot be
            used.
    """

    def __init__(
        self,
        family: str,
        data: Mapping[str, Any],
        *,
        overrides: Iterable[str] = (),
        sections: Mapping[str, Mapping[str, Any]],
        most: Mapping[str, int] | None = None,
        init_from: str | None = None,
        complete: Callable[[Recipe], Recipe] = lambda recipe: recipe,
    ) -> None:
        overrides = list(overrides)
        self.given = {override.partition("=")[0] for override in overrides}
        self.reasons = dict[str, str]()
        start = {"family": family, **sections, "data": {**(most or {}), **data}}
        if init_from is not None:
            start["init_from"] = init_from
        recipe = recipe_from_dict(start, overrides=overrides)
        module = registry.load_data_kind(recipe.kind)  # an override may have changed the kind
        found = module.suggest(complete(recipe).data, bases=recipe.bases)
        if most:
            fitted = recipe.data.model_dump() | {k: value for k, (value, _) in found.items()}
            capped = {
                key: min(number, fitted[key])
                for key, number in most.items()
                if f"data.{key}" not in self.given and isinstance(fitted.get(key), int)
            }
            recipe = recipe_from_dict({**start, "data": {**data, **capped}}, overrides=overrides)
            found = module.suggest(complete(recipe).data, bases=recipe.bases)
            found = {key: pair for key, pair in found.items() if key not in capped} | {
                key: (value, found[key][1] if key in found else "") for key, value in capped.items()
            }
        said = {**sections, "data": data}
        self.bases = recipe.bases
        self._shown = {f"{section}.{key}" for section, values in said.items() for key in values}
        self._values = recipe.as_dict()
        for section in ("data", "model"):  # what nobody said may follow from `init_from`
            own = getattr(recipe, section).model_dump(mode="json", exclude_unset=True)
            self._values[section] = own
        self.suggest("data", found)

    def suggest(self, section: str, found: Mapping[str, tuple[Any, str]]) -> None:
        """Set values of a section, each with its reason; not those that the user has given."""
        for name, (value, reason) in found.items():
            key = f"{section}.{name}"
            if key not in self.given and key.rpartition(".")[0] not in self.given:
                *parents, last = key.split(".")
                values = self._values
                for parent in parents:
                    values = values.setdefault(parent, {})
                values[last] = value
                self.reasons[key] = reason

    @property
    def recipe(self) -> Recipe:
        """Checked. Raises RecipeError: what was suggested does not go together."""
        return recipe_from_dict(self._values)

    def text(self) -> str:
        """The keys of the model, those given and those suggested, each with its reason, or in the
        model its documentation, above it. Of a model that another begins with, its own keys are not
        said again.
        """
        recipe = self.recipe
        model = "model" if recipe.init_from is None else "init_from"
        shown = {"family", "seed", model, *self._shown, *self.given, *self.reasons}
        docs = {key.key: key.doc for key in keys(type(recipe)) if key.key.startswith("model.")}
        reasons = {key: reason for key, reason in self.reasons.items() if reason}
        return to_yaml(_only(recipe.as_dict(), shown), docs | reasons)


def new_recipe(
    family: str, source: str, *, kind: str | None = None, overrides: Iterable[str] = ()
) -> str:
    """The text of a recipe that trains `family` on `source`, with every key of its model.

    The first required key of a data kind names the source. Its `suggest` says what suits it;
    length, batch and width follow from how much there is. Overridden keys stay as they are.

    Raises:
        InputError: the family is unknown or does not take this data, or an override is wrong.
        DataError: the data cannot be used.
    """
    overrides = list(overrides)
    kind = _kind_for(family, kind)
    epochs = any(override.startswith("trainer.max_epochs=") for override in overrides)
    data = {"kind": kind, source_key(kind): source}
    trainer = {} if epochs else {"max_steps": STEPS[1]}
    draft = Draft(family, data, overrides=overrides, sections={"trainer": trainer})
    fitted = draft.recipe
    found = open_data(fitted)
    usual = fitted.trainer.global_batch
    draft.suggest("trainer", _length(len(found.train), usual, draft.given))
    draft.suggest("model", width(registry.load_family(family).Config, found))
    return draft.text()


def source_key(kind: str) -> str:
    """The key of a data kind that names the source: the first that is required."""
    config = registry.load_data_kind(kind).Config
    required = [name for name, field in config.model_fields.items() if field.is_required()]
    return next(name for name in required if name != "kind")


def open_data(recipe: Recipe) -> Any:
    """The data of a recipe. Raises as its kind."""
    kind = registry.load_data_kind(recipe.kind)
    return kind.Data(recipe.data, seed=recipe.seed, bases=recipe.bases)


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


def width(config: type[Section], data: Any) -> dict[str, tuple[Any, str]]:
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


def _only(data: Mapping[str, Any], shown: set[str], prefix: str = "") -> dict[str, Any]:
    """The part of the data whose dotted keys, or whose parents, are in `shown`."""
    kept: dict[str, Any] = {}
    for key, value in data.items():
        if prefix + key in shown:
            kept[key] = value
        elif isinstance(value, Mapping) and (inner := _only(value, shown, f"{prefix}{key}.")):
            kept[key] = inner
    return kept
