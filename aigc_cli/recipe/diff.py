"""In which values two recipes differ, whatever their text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.write import flow

ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """One dotted key with both values; ABSENT where a recipe has no such key."""

    key: str
    a: Any
    b: Any

    @staticmethod
    def show(value: Any) -> str | None:
        return None if value is ABSENT else flow(value)

    def as_dict(self) -> dict[str, Any]:
        """Without the side that has no such key."""
        sides = {"key": self.key, "a": self.a, "b": self.b}
        return {name: value for name, value in sides.items() if value is not ABSENT}


def differences(a: Recipe, b: Recipe) -> list[Difference]:
    """The keys whose resolved values differ, in the order of the recipe."""
    left, right = dict(flat(a.as_dict())), dict(flat(b.as_dict()))
    keys = [*left, *(key for key in right if key not in left)]
    pairs = (Difference(key, left.get(key, ABSENT), right.get(key, ABSENT)) for key in keys)
    return [pair for pair in pairs if pair.a != pair.b]


def flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and the values that are no mappings."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
