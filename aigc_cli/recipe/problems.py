"""pydantic's errors in the words of a recipe: key, what was expected, what was got, default."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from aigc_cli import registry
from aigc_cli.errors import Problem, did_you_mean
from aigc_cli.recipe import fields
from aigc_cli.recipe.overrides import PLACE

Path = tuple[str | int, ...]
Place = tuple[str | None, int | None]

_RANGE = {"greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of"}
_NAMES: dict[Path, Callable[[], Mapping[str, Any]]] = {
    ("family",): registry.families,
    ("data", "kind"): registry.data_kinds,
}


@dataclass(frozen=True)
class Places:
    """Where each value of the data was written: a line of the file, or the command line."""

    file: str | None
    lines: Mapping[Path, int]
    overridden: frozenset[Path]

    def of(self, path: Path) -> Place:
        """The command line if the path or a part of it was set there; else its line in the file."""
        parents = [path[:end] for end in range(len(path), 0, -1)]
        if any(parent in self.overridden for parent in parents):
            return PLACE, None
        return self.file, next((self.lines[p] for p in parents if p in self.lines), None)


def explain(
    error: ValidationError, data: Mapping[str, Any], model: type[BaseModel], places: Places
) -> list[Problem]:
    """One problem per wrong key, in the model's order; the branches of a union count as one."""
    problems: dict[Path, Problem] = {}
    for item in error.errors(include_url=False):
        path = _written(item["loc"], data)
        kind = item["type"]
        if kind not in ("extra_forbidden", "missing") or isinstance(path[-1], int):
            path = path[: fields.find(model, path)[1]]  # an item of a list is a fault of the list
            kind = "list_type" if kind == "missing" else kind
        if path not in problems:
            file, line = places.of(path)
            code, message, hint = _words(kind, item, path, _at(data, path), model)
            key = ".".join(map(str, path)) or None
            problems[path] = Problem(message, f"recipe.{code}", file, line, key, hint)
    return list(problems.values())


def _words(
    kind: str, item: Mapping[str, Any], path: Path, value: Any, model: type[BaseModel]
) -> tuple[str, str, str | None]:
    """Code, message and hint of one error."""
    field, _ = fields.find(model, path)
    if kind == "extra_forbidden":
        return "unknown_key", "unknown key", did_you_mean(str(path[-1]), _keys(model, path[:-1]))
    if kind == "missing":
        names = _NAMES[path]() if path in _NAMES else None
        return "missing_key", "this key is required", did_you_mean("", names) if names else None
    if kind == "value_error":
        return "invalid", str(item["ctx"]["error"]), None
    if field is None:
        return "wrong_type", f"expected keys with values, got {fields.show(value)}", None
    name = str(path[-1])
    facts = [
        f"default {text}" if (text := fields.default(field)) else "",
        fields.limits(name, field),
    ]
    known = f" ({', '.join(filter(None, facts))})" if any(facts) else ""
    if kind in _RANGE:
        return "out_of_range", f"{fields.show(value)} is out of range{known}", None
    message = f"expected {fields.expected(field.annotation)}, got {fields.show(value)}{known}"
    return "wrong_type", message, _advice(field.annotation, value)


def _advice(annotation: Any, value: Any) -> str | None:
    """What the writer of the value probably meant."""
    known = fields.choices(annotation)
    if isinstance(value, str) and known:
        hint = did_you_mean(value, known)
        return hint if hint.startswith("did") else None
    kinds = fields.accepts(annotation)
    if value and isinstance(value, str) and "list" in kinds:
        return f"as in [{value}]"
    if (
        isinstance(value, float)
        and value.is_integer()
        and "whole number" in fields.expected(annotation)
    ):
        return f"write {int(value)}"
    if (
        isinstance(value, str)
        and value.lstrip("+-").startswith("0")
        and value.lstrip("+-").isdigit()
    ):
        return "numbers have no leading zeros"
    if value is None and kinds == {"section"}:
        return "remove the key or write keys under it"
    return None


def _written(loc: Sequence[str | int], data: Any) -> Path:
    """The location without the names pydantic adds for the branches of a union."""
    path: list[str | int] = []
    for depth, part in enumerate(loc, start=1):
        if isinstance(data, dict) and (part in data or depth == len(loc)):
            path.append(part)
            data = data.get(str(part))
        elif isinstance(data, list) and isinstance(part, int):
            path.append(part)
            data = data[part] if part < len(data) else None
    return tuple(path)


def _at(data: Any, path: Iterable[Any]) -> Any:
    for part in path:
        data = data[part] if isinstance(data, list) or part in data else None
    return data


def _keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys allowed under the path."""
    field, used = fields.find(model, path)
    if not path:
        return list(model.model_fields)
    if field is None or used != len(path):
        return []
    sections = [a for a in fields.alternatives(field.annotation) if fields.is_section(a)]
    return [name for section in sections for name in section.model_fields]
