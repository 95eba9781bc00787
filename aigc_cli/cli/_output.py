"""What every command shares: its common options, and the one way results and errors reach people.

stdout is for results, stderr for everything else. With `--json` stdout is one JSON object, on
success and on failure; text is never mixed into it and nothing is ever colored.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import typer

from aigc_cli.cli._table import table
from aigc_cli.errors import AigcError, Interrupted, RecipeError

KEY_VALUE = "[KEY=VALUE]..."
GLOBAL_OPTIONS = ("--quiet", "-q", "--json", "--debug")


def recipe_names(incomplete: str) -> list[str]:
    from aigc_cli import registry

    return [name for name in registry.recipes() if name.startswith(incomplete)]


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and full messages.")]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="Recipe file or name (see `aigc recipe ls`).",
        autocompletion=recipe_names,
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar=KEY_VALUE,
        help="Overrides of the recipe, such as model.lr=1e-4 trainer.max_steps=200.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Output:
    """Prints what a command has to say, as text or as JSON."""

    json: bool = False
    quiet: bool = False

    def result(self, data: Mapping[str, Any], text: str | None = None) -> None:
        """The result: `text` for people, `{"ok": true, **data}` with --json."""
        if self.json:
            print(dumps({"ok": True, **data}), flush=True)
        elif text:
            print(text, flush=True)

    def table(
        self, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], **style: Any
    ) -> None:
        """A table for people, with the `style` of `table`; with --json the rows under `name`."""
        self.result({name: [dict(row) for row in rows]}, table(rows, columns, **style))

    def log(self, text: str) -> None:
        """A remark on stderr, unless --quiet."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def next(self, *commands: str) -> None:
        """What to type next, for a person at a terminal."""
        if sys.stderr.isatty() and not self.json:
            self.log("\n".join(["next:", *(f"  {command}" for command in commands)]))

    def fail(self, error: AigcError, data: Mapping[str, Any], text: str | None = None) -> NoReturn:
        """End with the error after showing the results all the same, in one object with --json."""
        if self.json:
            print(dumps({**failure(error), **data}), flush=True)
        else:
            self.result(data, text)
            print(error_text(error), file=sys.stderr, flush=True)
        raise typer.Exit(error.exit_code)


def dumps(data: Any) -> str:
    """One line of strict JSON; numbers that are not finite become null."""
    return json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, default=str)


def failure(error: AigcError) -> dict[str, Any]:
    """The JSON form of an error."""
    errors = [problem.as_dict() for problem in error.problems]
    return {"ok": False, "exit": error.exit_code, "errors": errors}


def error_text(error: AigcError, *, whole: bool = False) -> str:
    """`error: ...` with each problem on its own line, and `hint: ...`; no more than a screen of it
    unless the `whole` is asked for.
    """
    problems = error.problems
    if isinstance(error, RecipeError) and len(problems) > 1:
        one = len({p.file for p in problems} - {"command line"}) < 2
        where = " in this recipe" if one else ""
        lines = [f"error: {len(problems)} problems{where}", *(f"  {p}" for p in problems)]
    else:
        label = "stopped" if isinstance(error, Interrupted) else "error"
        lines = [f"{label}: {error.message}"]
    parts = ["\n".join(lines), *([f"hint: {error.hint}"] if error.hint else [])]
    return "\n".join(parts if whole else map(bounded, parts))


def bounded(text: str, lines: int = 20, width: int = 1000) -> str:
    """The text in at most so many lines and characters a line: a message fits on a screen."""
    rows = text.split("\n")
    kept = [
        row if len(row) <= width else f"{row[:width]}… ({len(row):,} characters)" for row in rows
    ]
    if len(rows) > lines:
        kept[lines:] = [f"  and {len(rows) - lines:,} more lines; --debug shows all"]
    return "\n".join(kept)


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(k): _plain(v) for k, v in data.items()}
    if isinstance(data, (list, tuple)):
        return [_plain(v) for v in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
