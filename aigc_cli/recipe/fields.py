"""What a field of a section accepts, read from its annotation, and how to say it in words."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    types.NoneType: "null",
}
_PLURAL = {int: "whole numbers", float: "numbers", str: "texts", Path: "paths"}


def find(model: type[BaseModel], path: Sequence[str | int]) -> tuple[FieldInfo | None, int]:
    """The deepest field on the path, and how many parts of the path lead to it."""
    found: FieldInfo | None = None
    used = 0
    models = [model]
    for depth, part in enumerate(path, start=1):
        fields = [m.model_fields[part] for m in models if part in m.model_fields]
        if not fields:
            break
        found, used = fields[0], depth
        models = [a for a in alternatives(found.annotation) if is_section(a)]
    return found, used


def alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, of Annotated and of Literal's wrapper, flat."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for arg in get_args(annotation):
            yield from alternatives(arg)
    else:
        yield annotation


def is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def accepts(annotation: Any) -> set[str]:
    """Which of text, null, list, section and scalar (numbers, booleans) the field takes."""
    return {_kind(a) for a in alternatives(annotation)}


def _kind(annotation: Any) -> str:
    origin = get_origin(annotation)
    if annotation in (str, Path):
        return "text"
    if annotation is types.NoneType:
        return "null"
    if origin is Literal:
        return "text" if all(isinstance(v, str) for v in get_args(annotation)) else "scalar"
    if origin in (tuple, list):
        return "list"
    return "section" if is_section(annotation) or origin is dict else "scalar"


def choices(annotation: Any) -> list[str]:
    """The texts a Literal allows."""
    literals = (a for a in alternatives(annotation) if get_origin(a) is Literal)
    return [v for a in literals for v in get_args(a) if isinstance(v, str)]


def expected(annotation: Any) -> str:
    """`a number`, `a list of 2 numbers`, `'bce' or 'hinge'`."""
    words = [_word(a) for a in alternatives(annotation)]
    return " or ".join(dict.fromkeys(words))


def _word(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        *front, last = [repr(v) for v in args]
        return f"{', '.join(front)} or {last}" if front else last
    if origin in (tuple, list):
        count = "" if origin is list or args[-1] is Ellipsis else f"{len(args)} "
        kinds = list(alternatives(args[0]))
        return f"a list of {count}{_PLURAL.get(kinds[0], 'values')}"
    if is_section(annotation) or origin is dict:
        return "keys with values"
    return _WORDS.get(annotation, str(annotation))


def limits(name: str, field: FieldInfo) -> str:
    """`0 < lr <= 1`, or nothing when the field has no bounds."""
    low = high = ""
    others = []
    for bound in _metadata(field.annotation, field.metadata):
        if isinstance(bound, annotated_types.Ge):
            low = f"{bound.ge} <= "
        elif isinstance(bound, annotated_types.Gt):
            low = f"{bound.gt} < "
        elif isinstance(bound, annotated_types.Le):
            high = f" <= {bound.le}"
        elif isinstance(bound, annotated_types.Lt):
            high = f" < {bound.lt}"
        elif isinstance(bound, annotated_types.MultipleOf):
            others.append(f"a multiple of {bound.multiple_of}")
        elif isinstance(bound, annotated_types.MinLen):
            others.append("not empty" if bound.min_length == 1 else f"length >= {bound.min_length}")
        elif isinstance(bound, annotated_types.MaxLen):
            others.append(f"length <= {bound.max_length}")
    if low and not high:
        low, high = "", {" < ": " > ", " <= ": " >= "}[low[len(low.split()[0]) :]] + low.split()[0]
    return ", ".join(dict.fromkeys(([f"{low}{name}{high}"] if low or high else []) + others))


def _metadata(annotation: Any, metadata: list[Any]) -> Iterator[Any]:
    """Bounds of the field and of the members of its union, not of the items of a list."""
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else [item]
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        yield from _metadata(inner, more)
    elif get_origin(annotation) in (Union, types.UnionType):
        for arg in get_args(annotation):
            yield from _metadata(arg, [])


def default(field: FieldInfo) -> str | None:
    """The default as JSON, or None when the field is required or is a section."""
    value = field.get_default(call_default_factory=True, validated_data={})
    if field.is_required() or isinstance(value, BaseModel):
        return None
    return show(value)


def show(value: Any, width: int = 60) -> str:
    """A value as it would be written, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= width else f"{text[: width - 3]}..."
