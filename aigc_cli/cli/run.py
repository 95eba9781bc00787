"""`aigc run`: what was trained, and how it went."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli.cli._output import Debug, Json, Output, Quiet
from aigc_cli.cli._table import pairs, records, table

app = typer.Typer(help="List, show and compare training runs.")

COLUMNS = ("run", "state", "step", "best", "started", "took")
STATES = {
    "state": {
        "running": "cyan",
        "finished": "green",
        "interrupted": "yellow",
        "killed": "yellow",
        "failed": "red",
    }
}
CURVE_ROWS = 12


def _run_names(incomplete: str) -> list[str]:
    from aigc_cli.run.history import find_runs

    return [name for path in find_runs() if (name := str(path)).startswith(incomplete)]


Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="Run folder, or a recipe for its latest run.",
        autocompletion=_run_names,
        show_default=False,
    ),
]


@app.command()
def ls(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder to search for runs, at any depth.")
    ] = Path("runs"),
    full: Annotated[bool, typer.Option("--full", help="Show every column, in full.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List runs, newest first."""
    from aigc_cli.run.history import list_runs

    runs = list_runs(folder)
    output = Output(json, quiet)
    rows = [_shown(row) for row in runs]
    if full:
        text = records(rows, COLUMNS)
    else:
        text = table(rows, COLUMNS, drop=("took", "started", "best"), styles=STATES)
    output.result({"runs": runs}, text if rows else None)
    if not runs:
        output.log(f"there are no runs in {folder}")


@app.command()
def show(run: Run, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Show the recipe, command, machine, metrics and files of a run."""
    from aigc_cli.run.history import details, find_run

    facts = details(find_run(run))
    Output(json, quiet).result(facts, _text(facts))


@app.command()
def report(
    run: Run,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Output page; report.html in the run without.", show_default=False
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a run as one page that needs no other file, and print its path."""
    from aigc_cli.run.history import find_run
    from aigc_cli.run.report import write_report

    found = find_run(run)
    page = write_report(found, out)
    Output(json, quiet).result({"run": str(found), "report": str(page)}, str(page))


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Run folders, or recipes for their latest runs.",
            autocompletion=_run_names,
            show_default=False,
        ),
    ],
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", "-m", help="Show only this validation metric.", show_default=False
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write a page with their curves and what they make.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Compare recipe values and results of runs side by side."""
    from aigc_cli.run import history

    paths = [history.find_run(run) for run in runs]
    found = history.compare(paths, metric)
    parts = (
        _columns("recipe", found["recipe"], found["runs"]) or "the recipes are equal",
        _columns("result", found["results"], found["runs"]),
    )
    output = Output(json, quiet)
    if html is not None:
        from aigc_cli.run.report import write_comparison

        output.log(f"page: {write_comparison(paths, html, metric)}")
    output.result(found, "\n\n".join(parts))


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A summary in the words of the table."""
    from aigc_cli.run.events import duration

    best, step, steps = row["best"], row["step"], row["steps"]
    reached = None if step is None else f"{step:,}"
    return {
        "run": row["run"],
        "state": row["state"],
        "step": f"{reached} of {steps:,}" if reached and steps not in (None, step) else reached,
        "best": f"{best['metric']} {_number(best['value'])}" if best else None,
        "started": (row["started"] or "")[:16].replace("T", " "),
        "took": None if row["seconds"] is None else duration(row["seconds"]),
    }


def _text(facts: Mapping[str, Any]) -> str:
    """Aligned lines, then the tables."""
    best = facts["best"]
    tables = [
        ("validation", _curve(facts["validation"], best["step"] if best else None)),
        ("evaluations", list(_scores(facts["evaluations"]))),
        ("files", list(_sizes(facts["files"]))),
    ]
    lines = pairs((name, text) for name, text in _lines(facts) if text)
    parts = [f"{facts['run']}\n{lines}"]
    parts += [f"{name}\n{table(rows, list(_keys(rows)))}" for name, rows in tables if rows]
    return "\n\n".join(parts)


def _lines(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    row, best, starts = _shown(facts), facts["best"], facts["starts"]
    yield "state", row["state"]
    yield "step", row["step"] or ""
    yield "best", f"{row['best']} at step {best['step']:,}" if best else ""
    yield "took", row["took"] or ""
    yield from _essential(facts["recipe"]).items()
    if starts:
        start = starts[-1]
        argv = start.get("argv")
        words = argv[1:] if isinstance(argv, list) else ()
        command = shlex.join(["aigc", *map(str, words)])
        yield "command", command
        yield "folder", f"{start.get('cwd')}, git {start.get('git') or '-'}"
        yield "started", row["started"] + (f", start {len(starts)}" if len(starts) > 1 else "")
    yield "machine", _machine(facts["environment"])


def _essential(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Each part of a recipe on one line, without nulls and what `trainer` has by default."""
    from aigc_cli.recipe.sections import Schedule, Trainer
    from aigc_cli.recipe.write import flow

    usual: dict[str, Any] = {name: f.default for name, f in Trainer.model_fields.items()}
    usual["schedule"] = Schedule().model_dump()
    shown = {}
    for section, values in recipe.items():
        if isinstance(values, dict):
            unusual = usual if section == "trainer" else {}
            kept = {
                k: v for k, v in values.items() if v not in (None, []) and unusual.get(k, ...) != v
            }
            values = ", ".join(f"{k} {flow(v)}" for k, v in kept.items()) or None
        if values is not None:
            shown[section] = values if isinstance(values, str) else flow(values)
    return shown


def _machine(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages")
    versions = packages if isinstance(packages, dict) else {}
    parts = [f"python {environment['python']}"] if "python" in environment else []
    parts += [f"{n} {versions[n]}" for n in ("aigc-cli", "torch", "torchvision") if n in versions]
    gpus = environment.get("gpus")
    hardware = [environment.get("cpu"), *(gpus if isinstance(gpus, list) else ())]
    return ", ".join([*parts, *(str(name) for name in hardware if name)])


def _curve(rows: Sequence[Mapping[str, Any]], best: int | None) -> list[dict[str, Any]]:
    """Rows spread evenly over the run, with the first, the last and the best one."""
    last = len(rows) - 1
    spread = {round(i * last / (CURVE_ROWS - 1)) for i in range(CURVE_ROWS)}
    kept = [row for i, row in enumerate(rows) if i in spread or row["step"] == best]
    return [
        {k: v if k == "step" else _number(v) for k, v in row.items()}
        | {"": "best" if row["step"] == best else " "}  # a column without a name
        for row in kept
    ]


def _scores(evaluations: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """One row for each metric of each evaluation."""
    for row in evaluations:
        model, metrics = row.get("model"), row.get("metrics")
        for name, score in metrics.items() if isinstance(metrics, dict) else ():
            if isinstance(score, dict):
                yield {
                    "step": model.get("step") if isinstance(model, dict) else None,
                    "data": row.get("data"),
                    "metric": name,
                    "value": _number(score.get("value")),
                    "bicubic": _number(score.get("bicubic")),
                    "n": score.get("n"),
                    "protocol": score.get("protocol"),
                }


def _sizes(files: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Files with their sizes; a folder of many files, all but checkpoints, as one row."""
    folders: dict[str, list[int]] = {}
    for file in files:
        folder, slash, _ = file["path"].partition("/")
        name = f"{folder}/" if slash and folder != "checkpoints" else file["path"]
        folders.setdefault(name, []).append(file["bytes"])
    for name, sizes in folders.items():
        yield {"file": name, "bytes": sum(sizes), "count": len(sizes)}


def _columns(name: str, rows: Sequence[Mapping[str, Any]], runs: Sequence[str]) -> str:
    """A table with one column for each run; empty without rows."""
    from aigc_cli.recipe.write import flow

    def cell(value: Any) -> str:
        return _number(value) if isinstance(value, float) and name == "result" else flow(value)

    cells = [{name: r["key"]} | {k: cell(v) for k, v in r["values"].items()} for r in rows]
    return table(cells, (name, *runs)) if rows else ""


def _keys(rows: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(key for row in rows for key in row)


def _number(value: Any) -> Any:
    return f"{value:.4f}" if isinstance(value, float) else value
