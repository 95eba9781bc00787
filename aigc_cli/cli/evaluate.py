"""`aigc evaluate` (alias `eval`): numbers with their protocol, and a gate for builds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet, table
from aigc_cli.cli.sample import Device, Ema, Options, check_device
from aigc_cli.errors import InputError, RequirementError


def evaluate(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|CKPT]", help="A run folder or .ckpt file.", show_default=False
        ),
    ] = None,
    options: Options = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Pictures instead of the recipe's validation data.", show_default=False),
    ] = None,
    generated: Annotated[
        Path | None, typer.Option(help="Files to score, without any model.", show_default=False)
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="What --generated should look like.", show_default=False)
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", help="Name, or several with commas; 'list' explains each."),
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help='Exit with 4 unless it holds, as "psnr_y>=36.0".', show_default=False),
    ] = None,
    border: Annotated[
        int | None,
        typer.Option(
            min=0, help="Pixels left out on every side, with --generated.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first ones.", show_default=False)
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            help="Folder for what the model makes, beside bicubic and the original.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Write into a --save that holds files.")] = False,
    ema: Ema = True,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a model, or two folders of files; --require fails a build."""
    from aigc_cli.run import evaluate as measuring

    output = Output(json, quiet)
    names = [name for text in metric or () for name in text.split(",") if name]
    if names == ["list"]:
        rows = measuring.explain_metrics()
        output.table("metrics", rows, ["metric", "better", "unit", "protocol"])
        return
    check_device(device)
    wanted = [text for item in require or () for text in item.split(",") if text]
    if generated or reference:
        if source or data or save or not (generated and reference):
            raise InputError(
                "--generated and --reference go together, and without a model, --data or --save",
                hint="aigc evaluate --generated DIR --reference DIR, or aigc evaluate RUN",
            )
        needed = measuring.with_required(names, wanted)
        report = measuring.evaluate_files(
            generated, reference, metrics=needed, border=border or 0, limit=limit
        )
    elif source:
        if border is not None:
            raise InputError("--border is for --generated; a model's border is its scale")
        report = measuring.evaluate_model(
            source,
            data=data,
            metrics=names,
            require=wanted,
            overrides=options or (),
            device=device,
            ema=ema,
            limit=limit,
            save=save,
            overwrite=overwrite,
            seen=lambda name: output.log(f"  {name}"),
        )
        wanted = report["require"]
    else:
        raise InputError(
            "what shall be evaluated? aigc evaluate RUN, or --generated and --reference"
        )
    try:
        measuring.check_requirements(report, wanted)
    except RequirementError as error:
        output.fail(error, report, _text(report))
    output.result(report, _text(report))


def _text(report: dict[str, Any]) -> str:
    rows = [
        {
            "metric": name,
            "value": _number(score["value"]),
            "bicubic": _number(score.get("bicubic")),
            "unit": score["unit"],
            "n": score["n"],
            "protocol": score["protocol"],
        }
        for name, score in report["metrics"].items()
    ]
    has_baseline = any("bicubic" in score for score in report["metrics"].values())
    columns = ["metric", "value", *(["bicubic"] if has_baseline else []), "unit", "n", "protocol"]
    return table(rows, columns)


def _number(value: Any) -> str | None:
    return f"{value:.4f}" if isinstance(value, float) else value
