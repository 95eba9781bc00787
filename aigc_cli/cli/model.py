"""`aigc model`: models for other programs, and from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.errors import InputError

app = typer.Typer(help="Give models to other programs, and take them from there.")


@app.command()
def export(
    source: Annotated[
        str, typer.Argument(metavar="RUN|CKPT", help="A run folder or a .ckpt file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to be written.")],
    format: Annotated[
        str, typer.Option(help="hf: a folder of Hugging Face's transformers.")
    ] = "hf",
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Only what LoRA trained, as PEFT loads it.")
    ] = False,
    ema: Annotated[
        bool, typer.Option(help="Use the moving average of the weights, if one was kept.")
    ] = True,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a language model as transformers loads it, adapters merged; prints the folder."""
    from aigc_cli.run.export import export_model

    if format != "hf":
        raise InputError(f"--format: '{format}' is not known", hint="choose from: hf")
    report = export_model(source, out, ema=ema, adapter=adapter)
    output = Output(json, quiet)
    if report["merged"]:
        output.log(f"the adapters of {report['adapters']} layers were merged into their weights")
    output.result(report, report["folder"])


@app.command("import")
def import_(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of transformers: Llama, Qwen or GPT-2.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to be written, .ckpt.")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a model of transformers as a checkpoint; prints its name."""
    from aigc_cli.run.export import import_model

    report = import_model(folder, out)
    Output(json, quiet).result(report, report["checkpoint"])
