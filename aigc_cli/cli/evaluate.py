"""`aigc evaluate` (alias `eval`): numbers with their protocol, and a gate for builds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet, table
from aigc_cli.cli.sample import Device, Ema, Options, check_device
from aigc_cli.errors import InputError, RequirementError

FACTS = ("value", "std", "n", "unit", "higher_is_better", "protocol")
"""Of a score in a report; its other numbers are those of answers without a model."""
TOGETHER = "--generated and --reference go together, and without a model, --data or --save"
HOW = "aigc evaluate --generated DIR --reference DIR, or aigc evaluate RUN"


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
        str | None,
        typer.Option(
            help="What --generated should look like; for FID of a model: val, train or pictures.",
            show_default=False,
        ),
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
    extractor: Annotated[
        str,
        typer.Option(
            help="Whose features FID and its kin compare: inception, inception:clean, RUN of a "
            "classifier, vgg16, random:cnn.",
        ),
    ] = "inception",
    count: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="How many pictures to make for FID and its kin. Default: as many as the "
            "reference, up to 10000.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the pictures that are made.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures made or judged at once.")] = 64,
    devices: Annotated[
        int, typer.Option(min=1, help="Processes that share the pictures of FID and its kin.")
    ] = 1,
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
    if not source and bool(generated) != bool(reference):
        raise InputError(TOGETHER, hint=HOW)
    if not source and not generated:
        raise InputError(
            "what shall be evaluated? aigc evaluate RUN, or --generated and --reference"
        )
    judging = measuring.Judging(extractor, reference, count, seed, batch_size)
    common: dict[str, Any] = {
        "metrics": names,
        "require": wanted,
        "judging": judging,
        "device": device,
        "limit": limit,
        "save": save,
        "overwrite": overwrite,
        "seen": lambda name: output.log(f"  {name}"),
    }
    if generated:
        if source or data:
            raise InputError(TOGETHER, hint=HOW)
        job = measuring.evaluate_files(
            generated, Path(str(reference)), border=border or 0, **common
        )
    else:
        if border is not None:
            raise InputError("--border is for --generated; a model's border is its scale")
        job = measuring.evaluate_model(
            str(source), data=data, overrides=options or (), ema=ema, **common
        )
    report = _in_processes(devices, job)
    if report is None:
        return
    wanted = report.get("require", wanted)
    try:
        measuring.check_requirements(report, wanted)
    except RequirementError as error:
        output.fail(error, report, _text(report))
    output.result(report, _text(report))


def _in_processes(devices: int, job: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
    """The report of the job, done here or in so many processes; None where another reports."""
    from aigc_cli.run.devices import find_world
    from aigc_cli.run.launch import launch

    if devices == 1 or find_world().is_worker:
        return job()
    if code := launch(devices, sys.argv[1:]):
        raise typer.Exit(code)
    return None


def _text(report: dict[str, Any]) -> str:
    scores = report["metrics"]
    baselines = dict.fromkeys(key for score in scores.values() for key in score if key not in FACTS)
    columns = ["metric", "value", *baselines, "unit", "n", "protocol"]
    rows = [
        {"metric": name, **{column: _number(score.get(column)) for column in columns[1:]}}
        for name, score in scores.items()
    ]
    protocol = [f"{name}: {text}" for name, text in report.get("protocol", {}).items()]
    notes = [f"note: {text}" for text in report.get("notes", ())]
    classes = [{k: _number(v) for k, v in row.items()} for row in report.get("classes", ())]
    by_class = ["", table(classes, list(classes[0]))] if classes else []
    return "\n".join([table(rows, columns), *protocol, *by_class, *notes])


def _number(value: Any) -> str | None:
    return f"{value:.4f}" if isinstance(value, float) else value
