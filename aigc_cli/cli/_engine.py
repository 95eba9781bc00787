"""The options by which a command is given to a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aigc_cli.errors import InputError

if TYPE_CHECKING:
    from aigc_cli.run.engines.cluster import Engine

EngineName = Annotated[
    Literal["local", "ray"],
    typer.Option("--engine", help="local: this machine's own processes; ray: a Ray cluster."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Workers of --engine ray.", show_default=False),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="Head of the Ray cluster. Default: RAY_ADDRESS, else one of our own on this machine.",
        show_default=False,
    ),
]


def engine_of(
    name: str, workers: int | None, address: str | None, *, instead: str | None = "leave it out"
) -> Engine | None:
    """The cluster that is meant; None: this machine. `instead` is the hint where --workers has no
    meaning without a cluster.

    Raises:
        InputError: options that do not go together, or no cluster there. MissingError: Ray is not
            installed.
    """
    if name == "local":
        if address is not None:
            raise InputError("--address is of a Ray cluster", hint="add --engine ray")
        if workers is not None and instead is not None:
            raise InputError(
                "--workers is of a Ray cluster", hint=f"add --engine ray, or {instead}"
            )
        return None
    from aigc_cli.run.engines.cluster import Engine, require_reachable

    if workers is None:
        raise InputError("--engine ray: with how many workers?", hint="add --workers 2")
    require_reachable(address)
    return Engine(workers, address)
