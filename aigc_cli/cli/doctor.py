"""`aigc doctor`: what this machine has, and what is missing."""

from __future__ import annotations

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.errors import MissingError


def doctor(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Say whether training works here, and what to install where it does not."""
    from aigc_cli.run.doctor import doctor_text, examine, require_working

    facts = examine()
    output = Output(json, quiet)
    try:
        require_working(facts)
    except MissingError as error:
        output.fail(error, facts, doctor_text(facts))
    output.result(facts, doctor_text(facts))
