"""The space that `aigc tune` searches: keys of a recipe, each with a range or with choices.

model.lr: {low: 1e-4, high: 1e-2, log: true}
model.latent_dim: {low: 8, high: 64, step: 8}
trainer.schedule.name: {choices: [constant, cosine]}
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from aigc_cli.errors import InputError, Problem, RecipeError, did_you_mean
from aigc_cli.recipe import fields, strict_yaml
from aigc_cli.recipe.diff import flat
from aigc_cli.recipe.load import Recipe, display, load_recipe
from aigc_cli.recipe.problems import Places, explain
from aigc_cli.recipe.sections import Section
from aigc_cli.recipe.write import flow


class Range(Section):
    """Numbers between two, both of them included."""

    low: float
    """The least value."""
    high: float
    """The greatest value."""
    log: bool = False
    """Spread evenly by ratios instead of differences, as learning rates should be."""
    step: float | None = Field(None, gt=0)
    """Distance between neighbors; without it every number, or every whole number."""

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, not {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step contradict each other, leave out one of them")
        if self.step and Decimal(f"{self.high - self.low:.9g}") % Decimal(f"{self.step:.9g}"):
            raise ValueError(f"no number of steps of {self.step:g} leads from low to high")
        return self


class Choices(Section):
    """One of these values."""

    choices: tuple[Any, ...] = Field(min_length=2)
    """Values that the key takes."""


@dataclass(frozen=True)
class Dimension:
    """What one key may be: values from low to high, or one of some texts."""

    key: str
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False
    whole: bool = False
    choices: tuple[str, ...] = ()
    """As they stand behind `key=` on the command line."""

    def text(self, value: Any) -> str:
        """A value as it stands behind `key=`: no longer than it needs to be, never out of range."""
        if self.choices:
            return str(value)
        if self.whole:
            return str(int(value))
        digits = 4 if self.step is None else 10
        return flow(min(max(float(f"{value:.{digits}g}"), self.low), self.high))

    def holds(self, value: Any) -> Any | None:
        """The value of a recipe as this dimension knows it; None where it lies outside."""
        if self.choices:
            texts = (value, flow(value))
            return next((text for text in texts if text in self.choices), None)
        inside = isinstance(value, (int, float)) and self.low <= value <= self.high
        if not inside or (self.step and abs((value - self.low) / self.step % 1 - 0.5) < 0.499):
            return None
        return int(value) if self.whole else float(value)

    def grid(self) -> list[Any] | None:
        """Every value in order; None where there is no end of them."""
        if self.choices:
            return list(self.choices)
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            return None
        count = round((self.high - self.low) / step) + 1
        values = (float(f"{self.low + n * step:.10g}") for n in range(count))
        return [int(value) if self.whole else value for value in values]


def read_space(path: Path, recipe: str, overrides: Sequence[str]) -> tuple[Dimension, ...]:
    """The space in a file, each key and the ends of each range checked against the recipe.

    Raises:
        RecipeError: all mistakes of the file. InputError: it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"--search {path}: {(error.strerror or str(error)).lower()}") from error
    file = display(path)
    document = strict_yaml.parse(raw if raw.strip() else b"{}", file)
    problems, found = list(document.problems), []
    if not problems and not (isinstance(document.data, dict) and document.data):
        what = "is empty" if not document.data else "is no mapping of keys"
        hint = "write such as model.lr: {low: 1e-4, high: 1e-2, log: true}"
        problems.append(Problem(f"the search space {what}", "search.space", file, hint=hint))
    if problems:
        raise RecipeError(problems)
    known = load_recipe(recipe, overrides, whole=False)
    for key, entry in document.data.items():
        lines = {at[1:]: line for at, line in document.lines.items() if at[:1] == (key,)}
        places = Places(file, lines, frozenset())
        try:
            dimension = _dimension(key, entry, known, places)
            _require_taken(dimension, recipe, overrides, places)
            found.append(dimension)
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return tuple(found)


def _dimension(key: str, entry: Any, recipe: Recipe, places: Places) -> Dimension:
    """
    Raises:
        RecipeError: the recipe has no such key, or the entry is neither a range nor choices.
    """

    def fail(message: str, hint: str | None = None) -> RecipeError:
        line = places.lines.get(())
        return RecipeError([Problem(message, "search.space", places.file, line, key, hint)])

    path = key.split(".")
    field, used = fields.find(type(recipe), path)
    keys = [name for name, _ in flat(recipe.as_dict())]
    below = [name for name in keys if name.startswith(f"{key}.")]
    if below:
        raise fail("is a section of the recipe", f"name its keys, as in {below[0]}: {{...}}")
    if field is None or used < len(path):
        raise fail("the recipe has no such key", did_you_mean(key, keys))
    if not isinstance(entry, dict):
        raise fail(
            f"expected a range or choices, got {fields.show(entry)}",
            "write {low: 1, high: 9} or {choices: [1, 2, 5]}",
        )
    form: type[Section] = Choices if "choices" in entry else Range
    try:
        made: Any = form.model_validate_json(json.dumps(entry))
    except ValidationError as error:
        raise RecipeError(_under(key, explain(error, entry, form, places), places)) from None
    kinds = set(fields.alternatives(field.annotation))
    if isinstance(made, Choices):
        plain = fields.accepts(field.annotation)
        bare = "text" in plain and "scalar" not in plain
        texts = [v if isinstance(v, str) and bare else flow(v) for v in made.choices]
        if len(set(texts)) < len(texts):
            raise fail("a choice stands there twice", "leave out one of them")
        return Dimension(key, choices=tuple(texts))
    if not kinds & {int, float}:
        raise fail(
            f"takes {fields.expected(field.annotation)}, of which there is no range",
            "name {choices: [...]}",
        )
    whole = float not in kinds
    for name in ("low", "high", "step") if whole else ():
        if (value := getattr(made, name)) is not None and not value.is_integer():
            raise fail(f"takes whole numbers, and {name} is {value:g}")
    return Dimension(key, made.low, made.high, made.step, made.log, whole)


def _require_taken(
    dimension: Dimension, recipe: str, overrides: Sequence[str], places: Places
) -> None:
    """See that the recipe takes the choices, or the ends of the range and a value beside one.

    Raises:
        RecipeError: it does not, by its first objection.
    """
    beside = dimension.low + (dimension.step or 1) if dimension.whole else dimension.low
    values = dimension.choices or (dimension.low, dimension.high, min(beside, dimension.high))
    for value in dict.fromkeys(map(dimension.text, values)):
        try:
            load_recipe(recipe, [*overrides, f"{dimension.key}={value}"], whole=False)
        except RecipeError as error:
            problem = error.problems[0]
            file, line = places.of(("choices" if dimension.choices else "low",))
            own = "" if problem.key == dimension.key else f"{value} is refused: "
            raise RecipeError([Problem(own + problem.message, "search.space", file, line,
                                       dimension.key, problem.hint)]) from None  # fmt: skip


def _under(key: str, problems: Sequence[Problem], places: Places) -> Iterator[Problem]:
    for p in problems:
        own, line = (f"{key}.{p.key}" if p.key else key), p.line or places.lines.get(())
        yield Problem(p.message, "search.space", p.file, line, own, p.hint)


def own_values(space: Sequence[Dimension], recipe: Mapping[str, Any]) -> dict[str, Any] | None:
    """The point of the space that the recipe itself is, None where it lies outside."""
    values = dict(flat(recipe))
    own = {one.key: one.holds(values.get(one.key)) for one in space}
    return None if None in own.values() else own
