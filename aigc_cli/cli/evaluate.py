"""`aigc evaluate` (alias `eval`): numbers with their protocol, and a gate for builds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._table import table
from aigc_cli.cli.sample import Device, Ema, Options, check_device
from aigc_cli.errors import InputError, RequirementError

FACTS = ("value", "std", "n", "unit", "higher_is_better", "protocol")
"""Of a score in a report; its other numbers are those of answers without a model."""


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
        list[str] | None,
        typer.Option(
            help="What --generated should be like, for texts more than once; for FID of a model: "
            "val, train or pictures.",
            show_default=False,
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Texts of another system, to see whether the difference is significant.",
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
    lang: Annotated[
        str | None,
        typer.Option(help="Language of the texts, as zh. Default: en.", show_default=False),
    ] = None,
    tokenize: Annotated[
        str | None,
        typer.Option(
            help="sacreBLEU's tokenizer for BLEU. Default: that of the language.",
            show_default=False,
        ),
    ] = None,
    lowercase: Annotated[
        bool, typer.Option("--lowercase", help="BLEU and chrF of texts in lower case.")
    ] = False,
    stem: Annotated[
        bool | None,
        typer.Option(
            "--stem/--no-stem",
            help="Whether ROUGE compares the stems of English words. Default: it does.",
            show_default=False,
        ),
    ] = None,
    rouge_split: Annotated[
        str | None,
        typer.Option(
            help="How ROUGE-Lsum finds sentences: newline (default) or sentence.",
            show_default=False,
        ),
    ] = None,
    extractor: Annotated[
        str,
        typer.Option(
            help="Whose features FID and its kin compare: inception, inception:clean, RUN of a "
            "classifier, vgg16, random:cnn. For BERTScore: FOLDER or FOLDER:LAYER.",
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
    """Score a model, folders of pictures or files of texts; --require fails a build."""
    from aigc_cli.run import asked, evaluate_files
    from aigc_cli.run.evaluate import evaluate_model

    output = Output(json, quiet)
    names = [name for text in metric or () for name in text.split(",") if name]
    if names == ["list"]:
        rows = asked.explain_metrics()
        output.table("metrics", rows, ["metric", "better", "unit", "protocol"])
        return
    check_device(device)
    wanted = [text for item in require or () for text in item.split(",") if text]
    references = reference or []
    given = {
        "lang": lang,
        "tokenize": tokenize,
        "lowercase": lowercase or None,
        "stem": stem,
        "split": rouge_split,
    }
    texts = {key: value for key, value in given.items() if value is not None}
    if not source and references and not generated:
        raise InputError(evaluate_files.TOGETHER, hint=evaluate_files.HOW)
    if not source and not generated:
        raise InputError(
            "what shall be evaluated? aigc evaluate RUN, or --generated and --reference"
        )
    judging = asked.Judging(
        extractor, references[-1] if references else None, count, seed, batch_size
    )
    common: dict[str, Any] = {
        "metrics": names,
        "require": wanted,
        "judging": judging,
        "texts": texts,
        "baseline": baseline,
        "device": device,
        "limit": limit,
        "save": save,
        "overwrite": overwrite,
        "seen": lambda name: output.log(f"  {name}"),
    }
    if generated:
        if source or data:
            raise InputError(evaluate_files.TOGETHER, hint=evaluate_files.HOW)
        job = evaluate_files.evaluate_files(
            generated,
            [Path(text) for text in references],
            border=border,
            **common,
        )
    else:
        if border is not None:
            raise InputError("--border is for --generated; a model's border is its scale")
        if len(references) > 1:
            raise InputError(asked.FOR_TEXTS, hint=asked.HOW_TEXTS)
        job = evaluate_model(str(source), data=data, overrides=options or (), ema=ema, **common)
    report = _in_processes(devices, job)
    if report is None:
        return
    wanted = report.get("require", wanted)
    try:
        asked.check_requirements(report, wanted)
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


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return " to ".join(f"{bound:.4f}" for bound in value)
    return f"{value:.4f}" if isinstance(value, float) else value
