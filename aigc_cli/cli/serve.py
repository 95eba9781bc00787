"""`aigc serve`: a page and an API for trained models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.errors import InputError


def serve(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]RUN|CKPT...",
            help="Runs, .ckpt files or training-free recipes; NAME is what the API calls it.",
            show_default=False,
        ),
    ],
    port: Annotated[
        int, typer.Option("--port", "-p", min=0, max=65535, help="0 takes any free one.")
    ] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but localhost needs a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="AIGC_TOKEN",
            show_envvar=True,
            help="What callers must send as a bearer token.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    max_mb: Annotated[float, typer.Option(min=0.001, help="Largest request, in MB.")] = 32.0,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Larger images are refused before they are decoded.")
    ] = 16_000_000,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 64,
    batch_size: Annotated[
        int, typer.Option(min=1, max=256, help="Requests for texts answered at once.")
    ] = 16,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds after which a request is given up.")
    ] = 120.0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Serve trained models: a web page, and an API that OpenAI's clients also speak; print the
    address.

    Nothing leaves this machine: the page asks no other server for anything."""
    from aigc_cli.run.paths import RUNS, find_checkpoint
    from aigc_cli.run.serving.listen import LOCAL, bind, require_serve

    require_serve()
    if host not in LOCAL and not token:
        raise InputError(
            f"--host {host}: whoever reaches this address could use the models",
            hint="choose a token with --token or AIGC_TOKEN",
        )
    named = dict(_named(source) for source in sources)
    if len(named) < len(sources):
        raise InputError("two models have the same name", hint="name them: NAME=RUN")
    for source in named.values():
        if Path(source).suffix not in (".yaml", ".yml") and (RUNS / source).exists():
            find_checkpoint(source)
    listening = bind(host, port)

    from aigc_cli.run.serving.api import Settings
    from aigc_cli.run.serving.listen import run
    from aigc_cli.run.trained import load_trained

    output = Output(json, quiet)
    with listening:
        models = {name: load_trained(source, device=device) for name, source in named.items()}
        settings = Settings(token, max_mb, max_pixels, queue, batch_size, timeout)
        name = f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}"
        output.result({"address": address, "models": list(models)}, address)
        output.log("Ctrl-C ends it, after the requests in progress")
        run(models, settings, listening)


def _named(text: str) -> tuple[str, str]:
    """NAME=SOURCE, or a source and a name made of it."""
    name, equals, source = text.partition("=")
    if equals and name and not Path(text).exists():
        return name, source
    path = Path(text)
    found = path.resolve() if path.exists() else path
    if found.suffix == ".ckpt" and found.parent.name == "checkpoints":
        found = found.parent.parent
    named_by_time = found.name[:4].isdecimal() and found.parent.name
    return (found.parent.name if named_by_time else found.stem), text
