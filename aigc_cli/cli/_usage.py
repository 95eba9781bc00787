"""Mistakes in the use of the command line, which Typer finds, with hints that fit the command."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import typer

from aigc_cli.cli._output import KEY_VALUE
from aigc_cli.errors import InputError

# What other tools call it: the key of a recipe.
SYNONYMS = {
    "batch_size": "trainer.global_batch",
    "epochs": "trainer.max_epochs",
    "gpus": "trainer.devices",
    "learning_rate": "model.lr",
    "num_workers": "trainer.workers",
    "steps": "trainer.max_steps",
}

PHRASES = {
    r"Input should be greater than or equal to": "it is at least",
    r"Input should be less than or equal to": "it is at most",
    r"Got unexpected extra arguments? ?\(s\) \((.*)\)": r"there is nothing to do with '\1' here",
}
"""What Typer and pydantic say, in our words."""


def usage_error(error: typer.TyperException, args: Sequence[str]) -> InputError:
    """The mistake as one sentence and a hint."""
    ctx: Any = getattr(error, "ctx", None)
    option = str(getattr(error, "option_name", "") or "")
    if ctx and getattr(error, "possibilities", None) is not None and option.startswith("-"):
        return InputError(
            f"no such option: {option}", hint=_for_option(option, ctx, args), code="usage"
        )
    message = error.format_message().rstrip(".")
    for phrase, ours in PHRASES.items():
        message = re.sub(phrase, ours, message)
    hint = f"{ctx.command_path} --help" if ctx else None
    if found := re.fullmatch(r"No such command '(.*?)'(\. Did you mean (.*)\?)?", message):
        message = f"no such command '{found[1]}'"
        hint = _for_command(found[1], ctx, found[3]) or hint
    return InputError(message[:1].lower() + message[1:], hint=hint, code="usage")


def _for_command(name: str, ctx: Any, near: str | None) -> str | None:
    """The nearest command, or the groups that have one of this name."""
    if near:
        return f"did you mean {near}?"
    names = "' or '".join(" ".join(p) for p, _ in _commands(ctx.find_root()) if p[-1] == name)
    return f"did you mean '{names}'?" if names else None


def _for_option(option: str, ctx: Any, args: Sequence[str]) -> str:
    """What `option` should have been in this command, or which command has it."""
    from aigc_cli.recipe.sections import Trainer

    params = ctx.command.get_params(ctx)
    values = {p.name for p in params if p.metavar == KEY_VALUE}
    of_recipe = "overrides" in values
    key = option.lstrip("-").replace("-", "_")
    known = {name: f"trainer.{name}" for name in Trainer.model_fields} | SYNONYMS | {"seed": "seed"}
    if (values and "." in key) or (of_recipe and key in known):
        return f"overrides have no dashes: {known.get(key, key)}={_value(option, args)}"
    paths = [" ".join(p) for p, command in _commands(ctx.find_root()) if _has(command, option)]
    if paths:
        return f"{option} is an option of: {', '.join(paths)}"
    own = [name for p in params for name in p.opts if name.startswith("--")]
    if near := get_close_matches(option, own, n=1, cutoff=0.75):
        return f"did you mean {near[0]}?"
    if values and option.startswith("--"):
        path = f"model.{key}" if of_recipe else key
        return f"overrides have no dashes: {path}={_value(option, args)}"
    return f"{ctx.command_path} --help"


def _value(option: str, args: Sequence[str]) -> str:
    """What stands behind `--lr=1e-4` or `--lr 1e-4`."""
    at = next(i for i, arg in enumerate(args) if arg.partition("=")[0] == option)
    _, equals, value = args[at].partition("=")
    if equals:
        return value
    following = args[at + 1] if at + 1 < len(args) else ""
    return following if following and not following.startswith("--") else "VALUE"


def _has(command: Any, option: str) -> bool:
    return any(option in p.opts for p in command.params)


def _commands(root: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(("aigc", "recipe", "ls"), command) of every command that the help lists."""

    def walk(path: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield path, command
        for name, member in (inner or {}).items():
            if not member.hidden:
                yield from walk((*path, name), member)

    return walk((root.info_name,), root.command)
