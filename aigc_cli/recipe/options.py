"""KEY=VALUE of the command line as a section, for what is not in a recipe."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from aigc_cli.errors import Problem, RecipeError
from aigc_cli.recipe import overrides
from aigc_cli.recipe.problems import Places, explain
from aigc_cli.recipe.sections import Section

T = TypeVar("T", bound=Section)


def read_options(model: type[T], given: Iterable[str]) -> T:
    """The section with the values that were given as KEY=VALUE.

    Raises:
        RecipeError: unknown keys, and values that their keys do not take.
    """
    found, problems = overrides.split(list(given))
    return assigned(model, found, problems=problems)


def assigned(
    model: type[T],
    given: Iterable[overrides.Override],
    data: Mapping[str, Any] | None = None,
    problems: Iterable[Problem] = (),
) -> T:
    """The section with the values that were given, above those of `data`.

    Raises:
        RecipeError: these problems, or unknown keys and values that their keys do not take.
    """
    values = json.loads(json.dumps(data or {}))
    found = list(problems)
    for override in given:
        found += overrides.apply(values, override, model)
    if not found:
        try:
            return model.model_validate_json(json.dumps(values))
        except ValidationError as error:
            found = explain(error, values, model, Places(overrides.PLACE, {}, frozenset()))
    raise RecipeError(found)
