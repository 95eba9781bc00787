"""Which data sets and models recipes use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aigc_cli import registry
from aigc_cli.catalog.builtin import PREFIX
from aigc_cli.catalog.entry import names
from aigc_cli.catalog.weights import find_entry, is_model
from aigc_cli.recipe import strict_yaml


def sets_of(data: object) -> tuple[str, ...]:
    """The data sets that a recipe's section `data` names, as `aigc data get` calls them.

    >>> sets_of({"train": ["bsds500/train", "mine"], "val": "builtin:photos:validation"})
    ('bsds500', 'builtin:photos')
    """
    known = names()
    found = []
    for text in _texts(data):
        if text.startswith(PREFIX):
            found.append(":".join(text.split(":")[:2]))
        elif (name := text.partition("/")[0]) in known:
            found.append(name)
    return tuple(dict.fromkeys(found))


def _texts(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list | tuple):
        for value in data:
            yield from _texts(value)


def how_to_get(data: object) -> str | None:
    """The command that gets the data of a recipe; None where it names data of the user's own."""
    sets = sets_of(data)
    fetched = [name for name in sets if not name.startswith(PREFIX)]
    if fetched:
        return f"aigc data get {' '.join(fetched)}"
    return "built in" if sets else None


def how_to_get_all(recipe: Mapping[str, Any]) -> str | None:
    """The line that gets the data of a recipe and the models of the catalog that it starts from or
    looks through; a recipe without data takes images of the user's, or built-in ones.
    """
    model = recipe.get("model")
    named = [recipe.get("init_from"), model.get("features") if isinstance(model, Mapping) else None]
    got = [find_entry(name)[0] for name in named if isinstance(name, str) and is_model(name)]
    commands = [f"aigc model get {name}" for name in dict.fromkeys(got)]
    data = how_to_get(recipe["data"]) if recipe.get("data") else "built in"
    if data is not None and (data != "built in" or not commands):
        commands.insert(0, data)
    return "; ".join(commands) or None


def recipes_by_set() -> dict[str, list[str]]:
    """Names of the recipes that use each data set."""
    found: dict[str, list[str]] = {}
    for file in registry.recipes().values():
        read: Any = strict_yaml.parse(file.path.read_bytes(), str(file.path)).data
        data = read.get("data") if isinstance(read, dict) else None
        for name in sets_of(data):
            found.setdefault(name, []).append(file.name)
    return found
