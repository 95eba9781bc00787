"""report.html: a run on one page that needs no other file, to be kept, sent and compared.

Read from the run folder alone (history.py), without torch: what is absent is left out.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image

from aigc_cli import __version__
from aigc_cli.errors import OutputError
from aigc_cli.media.files import write_bytes
from aigc_cli.recipe.write import to_yaml
from aigc_cli.run import history
from aigc_cli.run.curves import COLORS, chart
from aigc_cli.run.paths import RunPaths

REPORT = "report.html"
SHEETS = ("grid.png", "sheet.png", "film.gif")  # show several things at once
MOST_SHOWN = 8  # files of a kind beside the sheets
MOST_BYTES = 3 << 20  # of a film; larger ones are left out
LONGEST_S, MOST_RATE = 60, 48_000  # so much of a sound
LARGEST_SIDE = 1600  # pixels; larger images are reduced
MOST_TEXT = 4000  # characters

Row = dict[str, Any]


def write_report(run: Path, out: Path | None = None) -> Path:
    """Write the page of a run, into its folder unless `out` says where; returns the file.

    Raises:
        OutputError, DiskFullError: it cannot be written.
    """
    return _write(out or run / REPORT, "report.html", _facts(run))


def write_comparison(runs: Sequence[Path], out: Path, metric: str | None = None) -> Path:
    """Write a page that shows runs beside each other; returns the file.

    Raises:
        InputError: as `history.compare`. OutputError, DiskFullError: it cannot be written.
    """
    found = history.compare(runs, metric)
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        for name, points in _curves(run, metric).items():
            curves.setdefault(name, {})[str(run)] = points
    shown = [{"run": str(run), "shows": list(_shown(_last_preview(run), 4))} for run in runs]
    charts = [{"name": name, "svg": chart(lines)} for name, lines in _in_order(curves)]
    colors = dict(zip(found["runs"], COLORS, strict=False))
    return _write(
        out, "compare.html", {**found, "charts": charts, "previews": shown, "colors": colors}
    )


def _write(out: Path, template: str, facts: Mapping[str, Any]) -> Path:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    pages = files("aigc_cli.run") / "pages"
    environment = Environment(
        loader=FunctionLoader(lambda name: (pages / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "flow": _flow}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    text = environment.get_template(template).render(facts, version=__version__, now=now)
    if out.is_dir():
        raise OutputError(f"{out}: is a folder", hint="name a file, such as report.html")
    write_bytes(out, text.encode())
    return out


def _facts(run: Path) -> Row:
    """All that the page of a run shows."""
    found = history.details(run)
    best = found["best"]
    mark = {best["metric"]: best["step"]} if best else {}
    steps = _previews(run)
    return {
        **{key: found[key] for key in ("run", "state", "step", "steps", "best", "seconds")},
        "started": found["started"],
        "charts": [
            {"name": name, "svg": chart({name: points}, mark=mark)}
            for name, points in _in_order(_curves(run))
        ],
        "validation": found["validation"][-1:] and _table(found["validation"], best),
        "measures": list(_measures(found["evaluations"])),
        "previews": [
            {"step": int(step.name[5:]), "shows": list(_shown(step, MOST_SHOWN))}
            for step in dict.fromkeys(steps[:1] + steps[-1:])
        ],
        "recipe": to_yaml(found["recipe"]) if found["recipe"] else "",
        "family": found["recipe"].get("family", ""),
        "data": _data(run),
        "environment": found["environment"],
        "commands": _commands(found),
        "files": found["files"],
    }


def _curves(run: Path, metric: str | None = None) -> dict[str, list[tuple[float, float]]]:
    """(step, value) of every validation metric, then of every other number that was logged."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in history.rows_of(RunPaths(run).metrics):
        step = row.get("step")
        if not isinstance(step, int):
            continue
        for key, value in row.items():
            is_number = isinstance(value, (int, float)) or value is None
            if ("/" not in key and key not in ("lr", "samples_per_s")) or not is_number:
                continue
            name = key.removeprefix("val/")
            if metric in (None, name):
                found.setdefault(name, []).append((step, float("nan") if value is None else value))
    return found


def _in_order(curves: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Metrics of validation before losses, and those before learning rate and speed."""

    def place(name: str) -> int:
        return 2 if name in ("lr", "samples_per_s") else int("/" in name)

    return sorted(curves.items(), key=lambda item: place(item[0]))


def _table(rows: Sequence[Row], best: Mapping[str, Any] | None) -> Row:
    """The first, the best and the last validation, by metric."""
    wanted = {"first": rows[0], "last": rows[-1]}
    if best and (row := next((r for r in rows if r["step"] == best["step"]), None)):
        wanted = {"first": rows[0], "best": row, "last": rows[-1]}
    names = dict.fromkeys(name for row in wanted.values() for name in row if name != "step")
    return {
        "columns": {title: row["step"] for title, row in wanted.items()},
        "rows": [{"name": n, "values": [row.get(n) for row in wanted.values()]} for n in names],
    }


def _measures(evaluations: Sequence[Row]) -> Iterator[Row]:
    """A row for each metric of each `aigc evaluate`: its value, all beside it, and the protocol."""
    known = ("value", "n", "unit", "higher_is_better", "protocol", "ci95")
    for row in evaluations:
        model = row.get("model") or {}
        for name, score in (row.get("metrics") or {}).items():
            if isinstance(score, dict):
                beside = {k: v for k, v in score.items() if k not in known}
                yield {
                    "metric": name,
                    "step": model.get("step"),
                    "data": row.get("data"),
                    "beside": {k: v for k, v in beside.items() if isinstance(v, (int, float))},
                    **{key: score.get(key) for key in known},
                }


def _previews(run: Path) -> list[Path]:
    try:
        return sorted(p for p in RunPaths(run).previews.iterdir() if p.name[5:].isdecimal())
    except OSError:
        return []


def _last_preview(run: Path) -> Path | None:
    return next(reversed(_previews(run)), None)


def _shown(folder: Path | None, most: int) -> Iterator[Row]:
    """What a folder of samples holds, as parts of a page: sheets alone where there are such, else
    single images; sounds and texts.
    """
    if folder is None or not folder.is_dir():
        return
    found = sorted(path for path in folder.iterdir() if path.is_file())
    images = [p for p in found if p.suffix in (".png", ".gif")]
    sheets = [p for p in images if p.name in SHEETS]
    for path in sheets or images[:most]:
        if (data := _image(path)) is not None:
            yield {"kind": "img", "name": path.name, "data": data}
    sounds = [p for p in found if p.suffix in (".wav", ".flac", ".ogg", ".mp3")]
    for path in sounds[: most // 2]:
        if (data := _sound(path)) is not None:
            yield {"kind": "sound", "name": path.name, "data": data}
    texts = [p for p in found if p.suffix in (".txt", ".csv", ".jsonl", ".abc")]
    for path in texts[:most]:
        text = path.read_text(encoding="utf-8", errors="replace")
        cut = f"{text[:MOST_TEXT]} …" if len(text) > MOST_TEXT else text
        yield {"kind": "pre", "name": path.name, "words": cut}


def _image(path: Path) -> str | None:
    """As a data URL, reduced where it is large; None where it cannot be read."""
    try:
        if path.suffix == ".gif" or path.stat().st_size < MOST_BYTES // 8:
            return _plain(path, f"image/{path.suffix[1:]}")
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=90)
        return _url(buffer.getvalue(), "image/jpeg")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def _sound(path: Path) -> str | None:
    """As a data URL, as Ogg Vorbis where it is large; None where it cannot be read."""
    if path.stat().st_size < MOST_BYTES // 16:
        return _plain(path, f"audio/{path.suffix[1:]}")
    import soundfile

    try:
        samples, sample_rate = soundfile.read(path, frames=LONGEST_S * MOST_RATE)
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, sample_rate, format="OGG")
    except (soundfile.LibsndfileError, OSError):
        return None
    return _url(buffer.getvalue(), "audio/ogg")


def _plain(path: Path, kind: str) -> str | None:
    raw = path.read_bytes()
    return _url(raw, kind) if len(raw) <= MOST_BYTES else None


def _url(raw: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


def _data(run: Path) -> dict[str, Row]:
    """What was found in the data, by part (data.json)."""
    try:
        found = json.loads(RunPaths(run).data.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _commands(found: Row) -> Row:
    """How it was started, each time, and what repeats it and looks at it."""
    run = shlex.quote(found["run"])
    starts = [
        {
            "line": shlex.join(["aigc", *map(str, start.get("argv", ["aigc"])[1:])]),
            "cwd": start.get("cwd"),
            "time": start.get("time"),
            "git": start.get("git"),
        }
        for start in found["starts"]
    ]
    again = [
        f"aigc train {run}/recipe.yaml",
        f"aigc sample {run}",
        f"aigc evaluate {run}",
        f"aigc run show {run}",
    ]
    return {"starts": starts, "again": again}


def _number(value: Any) -> str:
    """As people read it; nothing where there is none."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def _flow(value: Any) -> str:
    """A value of a report or recipe on one line, no longer than a screen."""
    text = _number(value)
    return text if len(text) < 300 else f"{text[:300]} …"
