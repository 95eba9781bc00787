"""`aigc doctor`: what this machine has, and what is missing."""

from __future__ import annotations

from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._table import pairs
from aigc_cli.errors import MissingError


def doctor(
    test: Annotated[
        bool,
        typer.Option(
            "--test", help="Import the packages, compute on every device, load the weights."
        ),
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check packages, devices and weights, and say how to install what is missing."""
    from aigc_cli.run.doctor import doctor_lines, examine, require_working

    facts = examine(test=test)
    output = Output(json, quiet)
    text = pairs(doctor_lines(facts))
    try:
        require_working(facts)
    except MissingError as error:
        output.fail(error, facts, text)
    output.result(facts, text)
