"""The data sets inside the package: `builtin:NAME` or `builtin:NAME:PART` in a recipe."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from aigc_cli.catalog.entry import Inside, Modality
from aigc_cli.errors import DataError, did_you_mean
from aigc_cli.recipe import strict_yaml
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.registry import PACKAGE

FOLDER = PACKAGE / "builtin"
PREFIX = "builtin:"


class Builtin(Section):
    """One set inside the package."""

    title: Name
    """What it is."""
    modality: Modality
    license: Name
    """Its notice is in builtin/NOTICES.md."""
    parts: dict[Name, Inside]
    """Names of parts and their files below builtin/NAME."""


@cache
def builtins() -> dict[str, Builtin]:
    """Every built-in set by name."""
    path = FOLDER / "sets.yaml"
    document = strict_yaml.parse(path.read_bytes(), str(path))
    return TypeAdapter(dict[str, Builtin]).validate_python(document.data)


def parts_of(text: str) -> list[str]:
    """Every part of a set that is named as a whole, `builtin:SET`; none where it is not."""
    name = text.removeprefix(PREFIX)
    known = builtins().get(name) if text.startswith(PREFIX) else None
    return [f"{text}:{part}" for part in known.parts] if known else []


def find_builtin(text: str) -> Path:
    """The path that `builtin:SET[:PART]` means; a set of one part is that part.

    Raises:
        DataError: there is no such set or part, or it is no set of files.
    """
    name, _, part = text.removeprefix(PREFIX).partition(":")
    known = builtins()
    if name not in known:
        hint = did_you_mean(name, known, ls="aigc data ls built in")
        raise DataError(f"unknown builtin data {name!r}", hint=hint)
    parts = known[name].parts
    if part and part not in parts:
        raise DataError(f"builtin:{name} has no part {part!r}", hint=did_you_mean(part, parts))
    if name == "photos":
        raise DataError("builtin:photos are images of the package scikit-image, no files of aigc")
    if not part and len(parts) == 1:
        (part,) = parts
    return FOLDER / name / (parts[part] if part else "")
