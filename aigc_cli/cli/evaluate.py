"""`aigc evaluate` (alias `eval`): numbers with their protocol, and a gate for builds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._processes import in_processes
from aigc_cli.cli._report import metric_list, report_text
from aigc_cli.cli.sample import Device, Ema, check_device
from aigc_cli.errors import RequirementError

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

        rows = asked.explain_metrics()
        return output.result({"metrics": rows}, metric_list(rows, full=full))
    check_device(device)
    inputs.require_paths("--generated", generated)
    inputs.require_paths("--data", data)
    inputs.require_paths("--reference", *(t for t in reference or () if t not in inputs.PARTS))
    inputs.require_paths("--baseline", baseline)
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
    report = in_processes(devices, lambda: asked.open_job(source, given))
    if report is None:
        return
    try:
        asked.check_requirements(report, report["require"])
    except RequirementError as error:
        output.fail(error, report, report_text(report))
    output.result(report, report_text(report))
