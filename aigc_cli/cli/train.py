"""`aigc train`: train a model from a recipe."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli.cli._engine import Address, EngineName, Workers, engine_of
from aigc_cli.cli._output import Debug, Json, Output, Overrides, Quiet, recipe_names
from aigc_cli.errors import InputError


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="[RECIPE|DATA]",
            help="Recipe file or name (see `aigc recipe ls`); with --budget also a folder, file or "
            "set of data. Not needed with --resume RUN.",
            autocompletion=recipe_names,
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Output folder of the run. Default: runs/RECIPE/TIME-HASH.", show_default=False
        ),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            metavar="auto|PATH",
            help="Continue a run folder or checkpoint. auto: continue --out or the newest run of "
            "this recipe where there is one, start otherwise.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Overwrite an existing --out.")] = False,
    accept_changed_data: Annotated[
        bool,
        typer.Option(
            "--accept-changed-data", help="With --resume: go on although the data have changed."
        ),
    ] = False,
    devices: Annotated[
        str | None, typer.Option(help="Number of processes (trainer.devices).", show_default=False)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="auto, cpu, cuda or mps (trainer.device).", show_default=False),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="auto, fp32, bf16 or fp16 (trainer.precision).", show_default=False),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(help="Time limit, such as 2h30m; then validate and save.", show_default=False),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Time that all of it takes, such as 20m: as many steps as fit; for data, also a "
            "family and sizes that suit both.",
            show_default=False,
        ),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            help="With data: what to learn, such as generate, translate, classify, super-resolve.",
            show_default=False,
        ),
    ] = None,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything and try one batch of it; write nothing.",
        ),
    ] = False,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Train, resume and sample for a few steps, then delete.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a model from a recipe, or on data within a time, and print its run folder."""
    started = time.monotonic()
    from aigc_cli.cli._progress import watching
    from aigc_cli.run.events import parse_duration
    from aigc_cli.run.inputs import check_training

    if out is not None and resume not in (None, "auto") and Path(str(resume)).is_dir():
        raise InputError("--out and --resume RUN both name the run folder", hint="leave out --out")
    if overwrite and resume is not None:
        raise InputError(
            "--overwrite and --resume contradict each other", hint="leave out one of them"
        )
    cluster = engine_of(engine, workers, address, instead=f"use --devices {workers}")
    if cluster is not None and (devices or budget or smoke):
        raise InputError("--engine ray contradicts --devices, --budget and --smoke")
    seconds = parse_duration(max_time) if max_time is not None else None
    shortcuts = {"devices": devices, "device": device, "precision": precision}
    given = [f"trainer.{name}={value}" for name, value in shortcuts.items() if value is not None]
    if budget is not None:
        for option, value in {"--resume": resume, "--max-time": max_time, "--smoke": smoke}.items():
            if value:
                raise InputError(f"--budget and {option} contradict each other")
        length = parse_duration(budget, "--budget", unit=True)
        output = Output(json, quiet)
        with watching(json=json, quiet=quiet) as emit:
            made = _within(
                recipe, [*(overrides or []), *given], length, started, goal,
                out=out, overwrite=overwrite, emit=emit, write=not dry_run,
            )  # fmt: skip
        if isinstance(made, str):
            output.result({"recipe": made}, made.rstrip())
        elif not json:
            print(made, flush=True)
            run = shlex.quote(str(made))
            output.next(f"aigc sample {run}", f"aigc evaluate {run}")
        return
    if goal is not None:
        raise InputError(f"--goal {goal} needs data and a time", hint="add --budget 20m")

    check_training(recipe, [*(overrides or []), *given], resume)
    from aigc_cli.run.start import resolve, smoke_test, start

    chosen = resolve(recipe, [*(overrides or []), *given], resume)
    output = Output(json, quiet)
    if dry_run:
        from aigc_cli.run.plan import plan, plan_text

        facts = plan(chosen, try_step=True)
        output.result(facts, plan_text(facts))
        return
    with watching(json=json, quiet=quiet) as emit:
        if smoke:
            smoke_test(chosen, emit)
            folder = None
        else:
            folder = start(
                chosen,
                sys.argv[1:],
                out=out,
                resume=resume,
                overwrite=overwrite,
                max_time_s=seconds,
                accept_changed_data=accept_changed_data,
                engine=cluster,
                words=[*([recipe] if recipe else []), *(overrides or []), *given],
                emit=emit,
            )
    if folder is not None and not json:
        print(folder, flush=True)
        run = shlex.quote(str(folder))
        output.next(f"aigc sample {run}", f"aigc evaluate {run}")


def _within(
    subject: str | None,
    overrides: list[str],
    seconds: float,
    started: float,
    goal: str | None,
    *,
    out: Path | None,
    overwrite: bool,
    emit: Any,
    write: bool,
) -> Path | str:
    """Train data or a recipe for so long; the run folder, or the recipe that would be trained."""
    from aigc_cli.run.inputs import check_budget

    is_data = check_budget(subject, overrides, goal)
    from aigc_cli.run.budget import Clock, train_data, train_recipe
    from aigc_cli.run.start import resolve

    clock = Clock(seconds, started)
    if is_data:
        return train_data(
            str(subject), goal=goal, overrides=overrides, clock=clock, out=out,
            overwrite=overwrite, emit=emit, write=write,
        )  # fmt: skip
    if not write:
        raise InputError(
            "--dry-run with --budget is for data", hint=f"aigc plan {subject} times a recipe"
        )
    chosen = resolve(subject, overrides, None)
    return train_recipe(chosen, clock=clock, out=out, overwrite=overwrite, emit=emit)
