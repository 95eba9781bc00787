"""A job of a command in several processes on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import typer

Result = TypeVar("Result")


def in_processes(
    devices: int, open_job: Callable[[], Callable[[], Result | None]]
) -> Result | None:
    """The report of the job, done here or in so many processes; None where another reports."""
    job = open_job()  # what is wrong is said once
    if devices == 1:
        return job()
    from aigc_cli.run.devices import find_world
    from aigc_cli.run.launch import launch

    if find_world().is_worker:
        return job()
    if code := launch(devices, sys.argv[1:]):
        raise typer.Exit(code)
    return None
