"""`aigc recipe`: find, copy and check recipes."""

from __future__ import annotations

from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet

app = typer.Typer(help="Find, copy and check recipes.", rich_markup_mode=None)


@app.command()
def ls(
    filters: Annotated[
        list[str] | None, typer.Argument(metavar="[FILTER]...", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the recipes that ship with aigc and those of AIGC_PATH."""
    from aigc_cli import registry

    out = Output(json, quiet)
    rows = [{"recipe": f"{r.room}/{r.name}"} for r in registry.recipes().values()]
    out.table("recipes", rows, ["recipe"])


@app.command()
def check(
    recipes: Annotated[list[str], typer.Argument(metavar="RECIPE... [KEY=VALUE]...")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Report every mistake of the recipes."""
    from aigc_cli.recipe import load_recipe

    out = Output(json, quiet)
    overrides = [a for a in recipes if "=" in a]
    for name in recipes:
        if "=" not in name:
            load_recipe(name, overrides)
            out.result({"recipe": name}, f"ok  {name}")
