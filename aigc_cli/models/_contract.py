"""What a family must have before it is built; whatever is absent is said with its file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from aigc_cli.errors import InputError
from aigc_cli.models._base import GenerativeModule
from aigc_cli.specs import Spec

FACTS = ("metrics", "averaged", "counted", "measures")
"""What a class says of itself, or where it depends on the config, an object."""


def require_contract(family: ModuleType) -> type[GenerativeModule]:
    """The class `Model` of a family's file.

    Raises:
        InputError: it lacks what every family promises; names the file and all that is wrong.
    """
    model: type[GenerativeModule] = family.Model
    wrong = list(_broken(model))
    if wrong:
        raise InputError(
            f"{family.__file__}: {'; '.join(wrong)}",
            hint="what a family must have is in docs/add_a_family.md",
            code="family",
        )
    return model


def require_networks(family: ModuleType, model: GenerativeModule) -> None:
    """See that the networks that `averaged` names are there.

    Raises:
        InputError: one is not; names those that there are.
    """
    networks = model.networks()
    for name in model.averaged if not model.training_free else ():
        if name not in networks:
            raise InputError(
                f"{family.__file__}: Model.averaged names '{name}', and its networks are "
                f"{', '.join(networks) or 'none'}",
                code="family",
            )


def require_values(model: GenerativeModule, values: dict[str, Any]) -> None:
    """See that `evaluate_batch` returned what the class promises.

    Raises:
        InputError: it did not; names both.
    """
    promised = set(model.counted or model.metrics)
    if not promised <= values.keys():
        file = sys.modules[type(model).__module__].__file__
        raise InputError(
            f"{file}: evaluate_batch returns {', '.join(values) or 'nothing'}, and "
            f"{'counted' if model.counted else 'metrics'} promises {', '.join(sorted(promised))}",
            code="family",
        )


def _broken(model: type) -> Iterator[str]:
    """What is wrong with the class, each in a few words."""
    if not issubclass(model, GenerativeModule):
        yield f"Model is no subclass of {GenerativeModule.__module__}.GenerativeModule"
        return
    if absent := sorted(getattr(model, "__abstractmethods__", ())):
        yield f"Model does not write {', '.join(absent)}"
    if not _is_tuple_of_specs(accepts := getattr(model, "accepts", None)):
        yield f"Model.accepts must be a tuple of Specs, such as (ImageSpec,), and is {accepts!r}"
    if model.training_free:
        return
    # What depends on the config is a property: counted of text_vae, measures of pix2pix. Its values
    # are seen when the model is built.
    fixed = {n: v for n in FACTS if not isinstance(v := getattr(model, n, None), property)}
    if "metrics" in fixed and not (fixed["metrics"] and _has_directions(fixed["metrics"])):
        yield f"Model.metrics must give 'max' or 'min' for each metric, and is {fixed['metrics']!r}"
    for name in ("averaged", "counted"):
        if name in fixed and not _is_names(fixed[name]):
            what = "names of networks" if name == "averaged" else "names"
            yield f"Model.{name} must be a tuple of {what}, and is {fixed[name]!r}"
    measures = fixed.get("measures")
    if measures is not None and not _has_directions(measures):
        yield f"Model.measures must give 'max' or 'min' for each, and is {measures!r}"


def _is_tuple_of_specs(value: Any) -> bool:
    whole = isinstance(value, tuple) and len(value) > 0
    return whole and all(isinstance(one, type) and issubclass(one, Spec) for one in value)


def _has_directions(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and way in ("max", "min") for name, way in value.items()
    )


def _is_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)
