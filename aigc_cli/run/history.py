"""What was trained and how it went, read from the run folders alone and without torch.

Whatever is absent, half-written or damaged is left out: looking at a run never fails.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from filelock import FileLock, Timeout

from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.run.paths import RUNS, RunPaths, is_run

Row = dict[str, Any]
Plain = TypeVar("Plain", dict[str, Any], list[Any])


def find_runs(folder: Path = RUNS) -> Iterator[Path]:
    """Every run folder in `folder` at any depth; links such as `latest` lead to none of its own."""
    for path in _folders(folder):
        if is_run(path):
            yield path
        else:
            yield from find_runs(path)


def find_run(text: str) -> Path:
    """The run a user means: its folder, runs/<recipe>/latest, or a recipe with runs, the newest.

    Raises:
        InputError: there is no such run.
    """
    name = Path(text).name.removesuffix(".yaml")
    for path in (Path(text), RUNS / text, RUNS / name):
        if is_run(path):
            return path.parent / path.readlink() if path.is_symlink() else path
        newest = max(filter(is_run, _folders(path)), key=started, default=None)
        if newest is not None:
            return newest
    known = {path.relative_to(RUNS).parts[0] for path in find_runs()}
    near = did_you_mean(text, known, ls="aigc run ls")
    raise InputError(
        f"{text}: there is no such run",
        hint=near if known else "none is here yet; train one with: aigc train RECIPE",
    )


def list_runs(folder: Path = RUNS) -> list[Row]:
    """The `summary` of every run in `folder`, the newest first."""
    return [summary(path) for path in sorted(find_runs(folder), key=started, reverse=True)]


def started(path: Path) -> str:
    """UTC time of the latest start in ISO format; "" when it is not known."""
    starts = _read(RunPaths(path).command, list)
    when = starts[-1].get("time") if starts and isinstance(starts[-1], dict) else None
    return when if isinstance(when, str) else ""


def summary(path: Path) -> Row:
    """One row of `aigc run ls`.

    state: that of status.json; killed when it says running but nobody holds the lock; unknown
        without status.json.
    step, steps: reached, and the length of the run. best: {"metric", "value", "step"} or None.
    started: latest start. seconds: from there to the end or to the latest sign of life.
    """
    run = RunPaths(path)
    status = _read(run.status_file, dict)
    state = status.get("state")
    state = state if isinstance(state, str) else "unknown"
    ended = state not in ("running", "unknown")
    if state == "running" and not _is_held(run.lock_file):
        state = "killed"
    best, seconds = status.get("best"), status.get("seconds")
    reached = [status.get("step")]
    if not ended:  # while it trains, only metrics.jsonl moves
        rows = rows_of(run.metrics)
        reached += [row.get("step") for row in rows]
        best = next((row["best"] for row in reversed(rows) if row.get("best")), None)
        seconds = _seconds_alive(run, path, state)
    return {
        "run": str(path),
        "state": state,
        "step": max(filter(_is_number, reached), default=None),
        "steps": status.get("steps") if _is_number(status.get("steps")) else None,
        "best": best if _is_best(best) else None,
        "started": started(path) or None,
        "seconds": seconds if _is_number(seconds) else None,
    }


def details(path: Path) -> Row:
    """All that `aigc run show` says: the summary and every file that can be read."""
    run = RunPaths(path)
    return {
        **summary(path),
        "recipe": read_recipe(path),
        "starts": [start for start in _read(run.command, list) if isinstance(start, dict)],
        "environment": _read(run.environment, dict),
        "validation": validation(path),
        "evaluations": rows_of(run.evaluations),
        "files": list(_files(path)),
    }


def compare(paths: Sequence[Path], metric: str | None = None) -> Row:
    """Recipe values in which runs differ, and how each ended, by run.

    The results are the last validation and the one of the best step, as `<metric> at best` and
    `<metric> at end`; `metric` keeps only those of one.

    Raises:
        InputError: fewer than two runs, or none was validated by `metric`.
    """
    from aigc_cli.recipe.diff import flat

    if len({path.resolve() for path in paths}) < max(2, len(paths)):
        raise InputError("compare needs two or more different runs")
    runs = [str(path) for path in paths]
    curves = {str(path): validation(path) for path in paths}
    known = {name for curve in curves.values() for row in curve for name in row} - {"step"}
    if metric is not None and metric not in known:
        raise InputError(
            f"--metric {metric}: none of these runs was validated by it",
            hint=did_you_mean(metric, known),
        )
    recipes = {str(path): dict(flat(read_recipe(path))) for path in paths}
    results = {str(path): _results(path, curves[str(path)], metric) for path in paths}
    return {
        "runs": runs,
        "recipe": [row for row in _side_by_side(recipes) if not _all_equal(row["values"], runs)],
        "results": _side_by_side(results),
    }


def read_recipe(path: Path) -> Row:
    """recipe.yaml of a run as plain data."""
    from aigc_cli.recipe import strict_yaml

    try:
        raw = RunPaths(path).recipe.read_bytes()
    except OSError:
        return {}
    data = strict_yaml.parse(raw, str(path)).data
    return data if isinstance(data, dict) else {}


def validation(path: Path) -> list[Row]:
    """The step and the metrics of every validation."""
    rows = [row for row in rows_of(RunPaths(path).metrics) if row.get("event") == "val"]
    return [
        {"step": row.get("step")}
        | {k.removeprefix("val/"): v for k, v in row.items() if k.startswith("val/")}
        for row in rows
    ]


def _folders(path: Path) -> list[Path]:
    try:
        return sorted(p for p in path.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return []


def _results(path: Path, curve: list[Row], metric: str | None) -> Row:
    facts = summary(path)
    best = facts["best"]
    found = {key: facts[key] for key in ("state", "step", "seconds")}
    if best:
        only = {best["metric"]: best["value"]}  # where its row is lost
        row = next((row for row in curve if row["step"] == best["step"]), only)
        found["best step"] = best["step"]
        found |= {f"{name} at best": v for name, v in row.items() if name != "step"}
    if curve:
        found |= {f"{name} at end": v for name, v in curve[-1].items() if name != "step"}
    names = None if metric is None else (f"{metric} at best", f"{metric} at end")
    return {k: v for k, v in found.items() if names is None or " at " not in k or k in names}


def _side_by_side(columns: dict[str, Row]) -> list[Row]:
    """One row for each key, in the order in which keys appear; absent values are left out."""
    keys = dict.fromkeys(key for column in columns.values() for key in column)
    return [
        {"key": key, "values": {n: column[key] for n, column in columns.items() if key in column}}
        for key in keys
    ]


def _all_equal(values: Row, runs: list[str]) -> bool:
    return len(values) == len(runs) and all(v == values[runs[0]] for v in values.values())


def _read(path: Path, kind: type[Plain]) -> Plain:
    """A JSON file that holds a `kind`; an empty one where it does not."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return kind()
    return data if isinstance(data, kind) else kind()


def rows_of(path: Path) -> list[Row]:
    """The objects of a file of JSON lines; a line in the making or a damaged one is skipped."""
    rows = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _files(path: Path) -> Iterator[Row]:
    """Every file of the run with its size in bytes."""
    for folder, _, names in sorted(os.walk(path)):
        for name in sorted(names):
            file = Path(folder, name)
            try:
                size = file.lstat().st_size
            except OSError:  # gone meanwhile, as a temporary file does
                continue
            yield {"path": file.relative_to(path).as_posix(), "bytes": size}


def _is_held(lock: Path) -> bool:
    """Whether a process holds the lock; asks for it, and gives it back at once."""
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError, NotImplementedError):
        return True  # held; or not to be opened, and then nothing speaks against the status


def _seconds_alive(run: RunPaths, path: Path, state: str) -> float | None:
    """From the latest start to now, or to the last row of metrics.jsonl when nobody runs it."""
    try:
        begun = datetime.fromisoformat(started(path)).timestamp()
        end = time.time() if state == "running" else run.metrics.stat().st_mtime
    except (ValueError, OSError):
        return None
    return round(max(0.0, end - begun), 1)


def _is_best(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("metric"), str)
        and _is_number(value.get("value"))
        and _is_number(value.get("step"))
    )


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
