"""`aigc tune`: better values for a recipe."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from aigc_cli.cli._engine import Address, EngineName, Workers, engine_of
from aigc_cli.cli._output import Debug, Json, Output, Overrides, Quiet, RecipeName
from aigc_cli.cli._table import table
from aigc_cli.cli.sample import GoOn


def tune(
    recipe: RecipeName,
    overrides: Overrides = None,
    *,
    search: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Search space as YAML: KEY: {low: 1e-4, high: 1e-2, log: true} or "
            "KEY: {choices: [...]}, a key a line.",
            show_default=False,
        ),
    ],
    trials: Annotated[int, typer.Option(min=1, help="Trials in all.")] = 16,
    sampler: Annotated[
        Literal["tpe", "random", "grid"], typer.Option(help="Who proposes values.")
    ] = "tpe",
    pruner: Annotated[
        Literal["asha", "hyperband", "none"],
        typer.Option(help="Who stops trials that are far behind after a validation."),
    ] = "asha",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the search.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Output folder. Default: runs/RECIPE-tune."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the search in --out.")] = False,
    go_on: GoOn = False,
    engine: EngineName = "local",
    workers: Workers = None,
    address: Address = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search better values for a recipe by short runs; write the best recipe."""
    from aigc_cli.cli._progress import watching
    from aigc_cli.recipe.search_space import read_space
    from aigc_cli.run.inputs import check_training

    cluster = engine_of(engine, workers, address)
    given = tuple(overrides or ())
    check_training(recipe, given, None)
    space = read_space(search, recipe, given)
    from aigc_cli.run.start import resolve
    from aigc_cli.run.tune import Tuning, require_optuna
    from aigc_cli.run.tune import tune as find

    require_optuna()
    from aigc_cli.run.engines.trials import on_ray
    from aigc_cli.run.tune_trial import in_this_process

    chosen = resolve(recipe, given, None)
    asked = Tuning(
        chosen, space, trials, out or Path("runs") / f"{chosen.name}-tune", sampler, pruner, seed,
        overwrite, go_on, shlex.join(["aigc", *sys.argv[1:]]),
    )  # fmt: skip
    with watching(json=False, quiet=quiet or json) as emit:
        result = find(asked, on_ray(cluster) if cluster else in_this_process, emit)
    output = Output(json, quiet)
    output.result(result, None if json else _text(result))
    best = shlex.quote(result["recipe"])
    output.log(f"trials are in {result['out']}/trials, a drawing in {result['out']}/trials.svg")
    output.next(f"aigc train {best}", f"aigc sample {shlex.quote(result['best']['run'])}")


def _text(result: dict[str, Any]) -> str:
    """The trials, the best one first, and its recipe."""
    from aigc_cli.run.tune_report import ranked

    metric, best = result["metric"], result["best"]
    rows = [_row(row, metric) for row in ranked(result["trials"], result["direction"])]
    keys = list(best["set"])
    names = dict(zip(keys, _short(keys), strict=True))
    shown = [{names.get(key, key): value for key, value in row.items()} for row in rows]
    columns = ("trial", metric, *names.values(), "step", "ended")
    own = next(
        (row for row in result["trials"] if row.get("own") and row["value"] is not None), None
    )
    beside = f", and {own['value']:.4f} as the recipe stands" if own else ""
    return (
        f"{table(shown, columns, wrap=False, drop=('step',))}\n\n"
        f"best: trial {best['trial']}, {metric} {best['value']:.4f}{beside}\n{result['recipe']}"
    )


def _row(row: dict[str, Any], metric: str) -> dict[str, Any]:
    same = row.get("same_as")
    ended = row["state"] if same is None else f"as trial {same}"
    value = None if row["value"] is None else f"{row['value']:.4f}"
    own = " (recipe)" if row.get("own") else ""
    return {"trial": f"{row['trial']}{own}", metric: value, **row["set"], "step": row["step"],
            "ended": row.get("reason") or ended}  # fmt: skip


def _short(keys: Sequence[str]) -> list[str]:
    """The last parts of the keys, or all of each where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    taken = {"trial", "step", "ended"}
    return last if len(set(last)) == len(keys) and not taken & set(last) else list(keys)
