"""Metrics by the names that people type, with the options that they give.

-m psnr,lpips  psnr.border=2     the option of one metric, or of all in a group
-m bleu,rouge  lang=de           of every chosen metric that has it
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import Field, create_model

from aigc_cli import registry
from aigc_cli.errors import InputError, Problem, did_you_mean
from aigc_cli.metrics._metric import Metric
from aigc_cli.recipe import overrides
from aigc_cli.recipe.options import assigned
from aigc_cli.recipe.sections import Section

LS = "aigc evaluate --metric list"
"""What lists every metric."""


def resolve(names: Iterable[str]) -> list[str]:
    """The metrics behind names and groups, each once, in the order given.

    Raises:
        InputError: a name is unknown.
    """
    known = registry.metrics()
    chosen: dict[str, None] = {}
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, ls=LS)
            raise InputError(f"unknown metric {name!r}", hint=hint)
        chosen |= dict.fromkeys(known[name].group or (name,))
    return list(chosen)


def members(name: str) -> tuple[str, ...]:
    """The metrics of a group; empty where the name is no group."""
    known = registry.metrics()
    return known[name].group if name in known else ()


def open_metrics(
    names: Iterable[str], given: Sequence[str] = (), defaults: Mapping[str, Any] | None = None
) -> list[Metric]:
    """The metrics behind names and groups, with the options `given` as KEY=VALUE or
    METRIC.KEY=VALUE; `defaults` are values for every metric that has such an option.

    Raises:
        InputError: a name is unknown, or its file cannot be used. RecipeError: an option that no
            chosen metric has, or a value that it does not take.
    """
    classes = {name: find_metric(name) for name in resolve(names)}
    parts: dict[str, Any] = {
        name: (metric.Options, Field(default_factory=metric.Options))
        for name, metric in classes.items()
    }
    model = create_model("Metrics", __base__=Section, **parts)
    data: dict[str, Any] = {
        name: {k: v for k, v in (defaults or {}).items() if k in metric.Options.model_fields}
        for name, metric in classes.items()
    }
    found, problems = overrides.split(list(given))
    placed: list[overrides.Override] = []
    for override in found:
        paths = _paths(override.path, classes)
        placed += [overrides.Override(path, override.text) for path in paths]
        if not paths:
            problems.append(_nobodys(override, classes))
    options = assigned(model, placed, data, problems)
    return [metric(getattr(options, name)) for name, metric in classes.items()]


def belongs(key: str, names: Iterable[str]) -> bool:
    """Whether the key of an option is about these metrics: METRIC.KEY, or KEY of any of them."""
    first, dot, _ = key.partition(".")
    if dot:
        return first in registry.metrics()
    return any(first in find_metric(name).Options.model_fields for name in names)


def find_metric(name: str) -> type[Metric]:
    """The class of a metric.

    Raises:
        InputError: there is none of that name, or its file cannot be used.
    """
    metric = registry.load_metric(name).Metric
    if not (isinstance(metric, type) and issubclass(metric, Metric)):
        path = registry.metrics()[name].path
        raise InputError(f"{path}: Metric is no subclass of aigc_cli.metrics._metric.Metric")
    metric.name = name
    return metric


def _paths(path: tuple[str, ...], classes: Mapping[str, type[Metric]]) -> list[tuple[str, ...]]:
    """Where in the options of all metrics a given key belongs."""
    first, *rest = path
    if not rest:
        return [(n, first) for n, m in classes.items() if first in m.Options.model_fields]
    group = members(first)
    return [
        (name, *rest)
        for name, metric in classes.items()
        if name == first or (name in group and rest[0] in metric.Options.model_fields)
    ]


def _nobodys(override: overrides.Override, classes: Mapping[str, type[Metric]]) -> Problem:
    """What to say of an option that no chosen metric has."""
    key = ".".join(override.path)
    known = {k for m in classes.values() for k in m.Options.model_fields}
    known |= {f"{n}.{k}" for n, m in classes.items() for k in m.Options.model_fields}
    message = f"no metric of {', '.join(classes)} has such an option"
    return Problem(
        message, "recipe.unknown_key", overrides.PLACE, key=key, hint=did_you_mean(key, known)
    )
