"""`key.sub=value` on the command line: the type of the field, not the shell, says what a value is.

A field of text takes everything behind the first `=` as it stands: `prompt=a, b: #c`, `name=true`,
`date=2023-09-16`. Only `null` is null where the field may be null, and a leading `[` begins a list
where the field may be a list. Every other field takes its value in YAML's flow style: `lr=1e-4`,
`betas=[0.5, 0.9]`, `clip_norm=null`. The last of several overrides of one key wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from aigc_cli.errors import Problem
from aigc_cli.recipe import fields, strict_yaml

PLACE = "command line"

_KEY = re.compile(r"[A-Za-z_]\w*(\.\w+)*")


@dataclass(frozen=True)
class Override:
    path: tuple[str, ...]
    text: str


def split(args: list[str]) -> tuple[list[Override], list[Problem]]:
    """Cut each argument at its first `=`."""
    overrides, problems = [], []
    for arg in args:
        key, equals, text = arg.partition("=")
        bare = key.lstrip("-").replace("-", "_")
        if key.startswith("-") and _KEY.fullmatch(bare):
            problems.append(_problem(f"overrides have no dashes: {bare}={text or 'VALUE'}"))
        elif not equals or not _KEY.fullmatch(key):
            problems.append(
                _problem(f"expected KEY=VALUE, got '{arg}'", hint="as in model.lr=1e-4")
            )
        elif any("\ud800" <= c <= "\udfff" for c in text):
            problems.append(_problem("the value is not UTF-8", key=key))
        else:
            overrides.append(Override(tuple(key.split(".")), text))
    return overrides, problems


def apply(data: dict[str, Any], override: Override, model: type[BaseModel]) -> list[Problem]:
    """Set one value in `data`, read as the field of `model` at its path wants it."""
    field, used = fields.find(model, override.path)
    kinds = fields.accepts(field.annotation) if field else set()
    key = ".".join(override.path)
    if used < len(override.path):
        if field and "section" not in kinds:
            parent = ".".join(override.path[:used])
            is_value = f"{parent} is {fields.expected(field.annotation)}"
            return [_problem("unknown key", key=key, hint=is_value)]
        kinds = set()
    value, problems = _read(override.text, kinds)
    if not problems:
        put(data, override.path, value)
    return [_problem(p.message, key=key, hint=p.hint) for p in problems]


def put(data: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value, making absent sections on its way.

    A section that is no mapping stays as it is, for validation to complain about.
    """
    *front, last = path
    section: Any = data
    for part in front:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            return
    section[last] = value


def _read(text: str, kinds: set[str]) -> tuple[Any, list[Problem]]:
    """The value of the text for a field that takes these kinds."""
    is_null = "null" in kinds and text == "null"
    is_list = "list" in kinds and text.startswith("[")
    if "text" in kinds and "scalar" not in kinds and not is_null and not is_list:
        return text, []
    document = strict_yaml.parse(text.encode(), PLACE) if text else strict_yaml.Document()
    return document.data, document.problems


def _problem(message: str, **extra: Any) -> Problem:
    return Problem(message, code="recipe.override", file=PLACE, **extra)
