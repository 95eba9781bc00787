"""`aigc evaluate` (alias `eval`): numbers with their protocol, and a gate for builds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._table import records, table
from aigc_cli.cli.sample import Device, Ema, check_device
from aigc_cli.errors import RequirementError

FACTS = ("value", "std", "n", "unit", "higher_is_better", "protocol")
"""Of a score in a report; its other numbers are those of answers without a model."""

Source = Annotated[
    str | None,
    typer.Argument(metavar="[RUN|CKPT]", help="A run folder or .ckpt file.", show_default=False),
]
Options = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Options of metrics, such as bleu.tokenize=zh, or lang=zh for all that have it; of "
        "the model's family, such as temperature=0; of reading files: on_error=skip, suffix=_x2.",
        show_default=False,
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Data to use instead of the recipe's validation data.", show_default=False),
]
Generated = Annotated[
    Path | None,
    typer.Option(help="File or folder to score without a model.", show_default=False),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--reference",
        help="Reference for --generated, repeatable for texts; for FID of a model: "
        "val, train or a folder.",
        show_default=False,
    ),
]
Baseline = Annotated[
    Path | None,
    typer.Option(
        help="Output of another system, for a significance test.",
        show_default=False,
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option("--metric", "-m", help="Metric names, comma-separated; 'list' describes them."),
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        help='Condition such as "psnr_y>=36.0"; exit code 4 if not met.', show_default=False
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="Number of samples for FID and similar. Default: size of the reference, up to 10000.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Random seed of the samples.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Batch size.")]
Devices = Annotated[int, typer.Option(min=1, help="Number of processes for FID and similar.")]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Use only the first N items.", show_default=False)
]
Save = Annotated[
    Path | None,
    typer.Option(help="Save outputs beside their references in this folder.", show_default=False),
]
Overwrite = Annotated[bool, typer.Option(help="Write into a --save folder that is not empty.")]
Full = Annotated[bool, typer.Option("--full", help="Show full protocols in `--metric list`.")]


def evaluate(
    source: Source = None,
    options: Options = None,
    data: Data = None,
    generated: Generated = None,
    reference: References = None,
    baseline: Baseline = None,
    metric: Metrics = None,
    require: Require = None,
    count: Count = None,
    seed: Seed = 0,
    batch_size: BatchSize = 64,
    devices: Devices = 1,
    limit: Limit = None,
    save: Save = None,
    overwrite: Overwrite = False,
    full: Full = False,
    ema: Ema = True,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Score a model or generated files; --require makes it a CI gate."""
    from aigc_cli.run import inputs

    output = Output(json, quiet)
    names = tuple(name for text in metric or () for name in text.split(",") if name)
    if names == ("list",):
        from aigc_cli.run import asked

        return _list(asked.explain_metrics(), output, full=full)
    check_device(device)
    inputs.require_paths("--generated", generated)
    inputs.require_paths("--data", data)
    inputs.require_paths("--reference", *(t for t in reference or () if t not in inputs.PARTS))
    inputs.require_paths("--baseline", baseline)
    if source and not generated:
        inputs.check_source(source)
    from aigc_cli.run import asked

    given = asked.Asked(
        metrics=names,
        require=tuple(text for item in require or () for text in item.split(",") if text),
        options=tuple(options or ()),
        data=data,
        generated=generated,
        references=tuple(reference or ()),
        baseline=baseline,
        count=count,
        seed=seed,
        batch_size=batch_size,
        limit=limit,
        save=save,
        overwrite=overwrite,
        device=device,
        ema=ema,
        seen=lambda name: output.log(f"  {name}"),
    )
    report = _in_processes(devices, lambda: asked.open_job(source, given))
    if report is None:
        return
    try:
        asked.check_requirements(report, report["require"])
    except RequirementError as error:
        output.fail(error, report, _text(report))
    output.result(report, _text(report))


def _list(rows: list[dict[str, Any]], output: Output, *, full: bool) -> None:
    """The metrics by modality; on a terminal protocols are cut unless all is asked for."""
    columns = ["metric", "of", "better", "unit", "protocol"]
    shown = [{**row, "metric": f"{row['modality']}/{row['metric']}"} for row in rows]
    if full:
        output.result({"metrics": rows}, records(shown, columns))
    else:
        text = table(shown, columns, wrap=False, drop=("of", "unit"), grouped=True)
        output.result({"metrics": rows}, text)


def _in_processes(
    devices: int, open_job: Callable[[], Callable[[], dict[str, Any] | None]]
) -> dict[str, Any] | None:
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
    if skipped := report.get("skipped"):
        notes += [f"note: {len(skipped)} left out", *(f"  {text}" for text in skipped[:20])]
    classes = [{k: _number(v) for k, v in row.items()} for row in report.get("classes", ())]
    by_class = ["", table(classes, list(classes[0]))] if classes else []
    return "\n".join([table(rows, columns), *protocol, *by_class, *notes])


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return " to ".join(f"{bound:.4f}" for bound in value)
    return f"{value:.4f}" if isinstance(value, float) else value
