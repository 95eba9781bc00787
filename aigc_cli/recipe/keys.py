"""Every key a recipe may have, with its type, default, bounds and documentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from aigc_cli.recipe import fields


@dataclass(frozen=True)
class Key:
    """One dotted key; `default` is JSON text, None when the key is required."""

    key: str
    expected: str
    default: str | None
    limits: str
    doc: str

    def __str__(self) -> str:
        value = f" = {self.default}" if self.default is not None else ""
        facts = [self.expected, "" if value else "required", self.limits]
        return f"{self.key}{value}  ({', '.join(filter(None, facts))})\n    {self.doc}"

    def as_dict(self) -> dict[str, Any]:
        return self.__dict__


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """The keys of a section and of the sections inside it, in their order."""
    for name, field in model.model_fields.items():
        sections = [a for a in fields.alternatives(field.annotation) if fields.is_section(a)]
        for section in sections:
            yield from keys(section, f"{prefix}{name}.")
        if not sections:
            yield Key(
                prefix + name,
                fields.expected(field.annotation),
                fields.default(field),
                fields.limits(name, field),
                " ".join((field.description or "").split()),
            )
