"""The commands as data: what docs/cli.md and `aigc agent-docs` are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from aigc_cli.cli._output import GLOBAL_OPTIONS


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command that the help lists with its words: (), ("train",), ("recipe", "ls") ..."""
    from aigc_cli.cli._app import app

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        yield words, command
        for name, inner in getattr(command, "commands", {}).items():
            if not inner.hidden:
                yield from walk((*words, name), inner)

    yield from walk((), typer.main.get_command(app))


def described(words: tuple[str, ...], command: Any) -> dict[str, Any]:
    """What a command does and takes, but for the options that every command has."""
    context = typer.Context(command, info_name=" ".join(("aigc", *words)))
    taken: dict[str, dict[str, str]] = {"arguments": {}, "options": {}}
    for one in command.params:
        record = one.get_help_record(context)
        if record and not {*GLOBAL_OPTIONS, "--help"} & set(one.opts):
            kind = "options" if one.opts[0].startswith("-") else "arguments"
            taken[kind][record[0]] = " ".join(record[1].split())
    usage = " ".join(context.command.collect_usage_pieces(context))
    return {
        "command": context.info_name,
        "usage": f"{context.info_name} {usage}",
        "does": " ".join((command.help or "").split()),
        **taken,
    }
