"""`aigc agent-docs`: what a program must know to call `aigc`, from what the docs are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.errors import InputError, did_you_mean


def agent_docs(
    sections: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SECTION]...",
            help="start, a command, keys, recipes, families or metrics; else start and all "
            "commands.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print for programs what to call, in which order, and what comes back."""
    known = _sections()
    for name in sections or ():
        if name not in known:
            raise InputError(f"there is no section '{name}'", hint=did_you_mean(name, known))
    chosen = sections or [name for name in known if name not in _LISTS]
    data = {name: known[name]() for name in chosen}
    text = "\n\n".join(f"# {name}\n\n{_text(value)}" for name, value in data.items())
    Output(json, quiet).result({"sections": data}, text)


def _sections() -> dict[str, Callable[[], Any]]:
    """Makers of the sections by name."""
    from aigc_cli.cli._tree import commands

    names = dict.fromkeys(words[0] for words, _ in commands() if words)
    names.pop("agent-docs")
    groups = dict.fromkeys(name.partition(" ")[0] for name in names)
    return {
        "start": _start,
        **{name: partial(_commands, name) for name in groups},
        **_LISTS,
    }


def _start() -> dict[str, Any]:
    from aigc_cli.cli._agent import CONVENTIONS, ORDER

    return {
        "order": [{"call": call, "why": why} for call, why in ORDER],
        "conventions": list(CONVENTIONS),
        "exit codes": _exit_codes(),
    }


def _exit_codes() -> dict[str, str]:
    """Of the classes right below AigcError, which its tree says in a line each."""
    from aigc_cli import errors

    found = re.findall(r"^[├└]── \w+ +(\d) +(.*)$", errors.__doc__ or "", re.MULTILINE)
    return {
        "0": "done",
        "1": "a bug in aigc",
        **dict(found),
        "130": "Ctrl-C, the state is saved",
        "143": "SIGTERM, the state is saved",
    }


def _commands(name: str) -> list[dict[str, Any]]:
    """A command, or each of a group."""
    from aigc_cli.cli._agent import PRINTS
    from aigc_cli.cli._tree import commands, described

    found = []
    for words, command in commands():
        path = " ".join(words)
        if (path == name or path.startswith(f"{name} ")) and not hasattr(command, "commands"):
            found.append({**described(words, command), "prints": PRINTS.get(path, {})})
    return found


def _keys() -> list[dict[str, Any]]:
    """Of every recipe; `aigc recipe show RECIPE --doc` has those of its data and model."""
    from aigc_cli.recipe.keys import keys
    from aigc_cli.recipe.load import Recipe
    from aigc_cli.recipe.sections import Evaluate, Trainer

    top = [key for key in keys(Recipe, "") if "." not in key.key]
    parts = [*top, *keys(Trainer, "trainer."), *keys(Evaluate, "evaluate.")]
    return [
        {"key": key.key, "value": key.expected, "default": key.default, "is": key.doc}
        for key in parts
    ]


def _recipes() -> list[dict[str, Any]]:
    from aigc_cli.cli.recipe import recipe_rows

    kept = ("recipe", "family", "makes", "minutes")
    return [{key: row[key] for key in kept if row[key]} for row in recipe_rows()]


def _families() -> list[dict[str, str]]:
    from aigc_cli.registry import families

    return [
        {"family": name, "room": family.room, "is": family.summary}
        for name, family in families().items()
    ]


def _metrics() -> list[dict[str, str]]:
    from aigc_cli.registry import metrics

    return [
        {"metric": name, "modality": metric.modality, "is": metric.summary}
        for name, metric in metrics().items()
    ]


_LISTS: dict[str, Callable[[], Any]] = {
    "keys": _keys,
    "recipes": _recipes,
    "families": _families,
    "metrics": _metrics,
}
"""Sections that are long, and printed only when asked for."""


def _text(value: Any, indent: str = "") -> str:
    """Plain lines: rows of words one a line, others with their names."""
    if isinstance(value, Mapping):
        lines = []
        for name, inner in value.items():
            if inner in ({}, [], "", None):
                continue
            if isinstance(inner, str):
                lines.append(f"{indent}{name}: {inner}")
            else:
                lines.append(f"{indent}{name}:\n{_text(inner, indent + '  ')}")
        return "\n".join(lines)
    rows = []
    for one in value:
        if isinstance(one, str):
            rows.append(f"{indent}{one}")
        elif all(isinstance(part, str | None) for part in one.values()):
            rows.append(indent + "  ".join(str(part) for part in one.values() if part))
        else:
            rows.append(f"\n{_text(one, indent)}")
    return "\n".join(rows).strip("\n")
