"""`aigc data`: look at pictures and texts before training on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Overrides, Quiet

app = typer.Typer(help="Look at data before training on it.", rich_markup_mode=None)

Data = Annotated[
    str,
    typer.Argument(
        metavar="PATH|RECIPE",
        help="A folder, zip, list.txt, picture, hf:NAME or builtin:photos; or a recipe.",
        show_default=False,
    ),
]


@app.command()
def show(
    data: Data,
    overrides: Overrides = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            help="Pictures on the sheet (16), or texts to print (3).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write a sheet of pictures here.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Counts, sizes, modes and classes; for a recipe also what a batch holds; texts as read."""
    from aigc_cli.run.data import show as describe
    from aigc_cli.run.data import show_text

    facts = describe(data, overrides or (), n=n, sheet=out)
    Output(json, quiet).result(facts, show_text(facts))


@app.command()
def check(
    data: Data,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Unusable pictures (exit code 2); duplicates, overlap, tiny classes, cut texts (warnings)."""
    from aigc_cli.run.data import check_text, inspect

    findings = inspect(data, overrides or ())
    output = Output(json, quiet)
    if findings.bad:
        output.fail(findings.bad, findings.as_dict(), check_text(findings))
    output.result(findings.as_dict(), check_text(findings))
