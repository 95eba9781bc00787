"""What a search found: its trials as rows, a drawing of them, and the best one as a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.overrides import put
from aigc_cli.recipe.write import to_yaml
from aigc_cli.run.curves import COLORS, ticks

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from aigc_cli.run.tune import Search

Row = dict[str, Any]
STATES = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "unfinished"}

WIDTH, HEIGHT, COLUMNS = 300, 200, 3
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 26, 30


def rows_of(trials: Sequence[FrozenTrial], search: Search) -> list[Row]:
    """A row for each trial that was begun, in the order of their numbers."""
    return [_row(t, search) for t in trials if t.state.name in STATES]


def _row(trial: FrozenTrial, search: Search) -> Row:
    seen = [v for v in trial.intermediate_values.values() if math.isfinite(v)]
    best = (min if search.direction == "min" else max)(seen, default=None)
    row: Row = {
        "trial": trial.number,
        "state": STATES[trial.state.name],
        "value": trial.value if trial.state.name == "COMPLETE" else best,
        "step": trial.last_step or 0,
        "set": dict(text.split("=", 1) for text in search.texts(trial.params)),
        "run": str(search.run_folder(trial.user_attrs.get("same_as", trial.number))),
    }
    if trial.duration is not None:
        row["seconds"] = round(trial.duration.total_seconds(), 1)
    for key in ("own", "same_as", "reason"):
        if key in trial.user_attrs:
            row[key] = trial.user_attrs[key]
    return row


def best_of(rows: Sequence[Row], direction: str) -> Row | None:
    """The best of those that finished, of equal ones the first."""
    finished = [row for row in rows if row["state"] == "finished"]
    sign = 1 if direction == "min" else -1
    return min(finished, key=lambda row: sign * row["value"], default=None)


def ranked(rows: Sequence[Row], direction: str) -> list[Row]:
    """Finished ones first, the best of them at the top; then those that were stopped or failed."""
    sign, order = (1 if direction == "min" else -1), list(STATES.values())

    def place(row: Row) -> tuple[int, float]:
        return order.index(row["state"]), sign * row["value"] if row["value"] is not None else 0.0

    return sorted(rows, key=place)


def best_recipe(search: Search, best: Row, rows: Sequence[Row], words: str) -> str:
    """The recipe of the best trial, complete, with where it comes from at its head."""
    texts = [f"{key}={value}" for key, value in best["set"].items()]
    recipe = search.recipe_with(texts)
    values = recipe.as_dict()
    for path, place in _moved(recipe):
        put(values, path, place)
    own = next((row for row in rows if row.get("own") and row["value"] is not None), None)
    before = f"; the recipe itself: {own['value']:.6g}" if own else ""
    head = (
        f"# {words}\n# trial {best['trial']} of {len(rows)}: {search.metric} {best['value']:.6g}"
        f"{before}\n# {'  '.join(texts)}\n"
    )
    return head + to_yaml(values)


def _moved(recipe: Recipe) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths of data beside the recipe's file, which would not be found from another folder."""
    here, *others = recipe.bases

    def place(text: Any) -> Any:
        if isinstance(text, list):
            return [place(one) for one in text]
        if not isinstance(text, str) or not text or (here / text).exists():
            return text
        return next((str(base / text) for base in others if (base / text).exists()), text)

    found: dict[tuple[str, ...], Any] = {
        ("data", key): value for key, value in recipe.as_dict()["data"].items()
    }
    found[("init_from",)] = recipe.init_from
    for path, value in found.items():
        if (moved := place(value)) != value:
            yield path, moved


# The drawing.


def drawing(rows: Sequence[Row], search: Search) -> str:
    """An SVG: the value of each trial in turn, and over each key that was searched."""
    shown = [row for row in rows if row["value"] is not None]
    panels = [_panel("trial", [(r, float(r["trial"])) for r in shown], (), search)]
    for one in search.space:
        if one.choices:
            at = [(r, float(one.choices.index(r["set"][one.key]))) for r in shown]
        else:
            at = [(r, float(r["set"][one.key])) for r in shown]
        panels.append(_panel(one.key, at, one.choices, search, log=one.log))
    lines = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH, lines * HEIGHT
    placed = "".join(
        f'<g transform="translate({n % COLUMNS * WIDTH},{n // COLUMNS * HEIGHT})">{panel}</g>'
        for n, panel in enumerate(panels)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11" fill="#374151">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{placed}</svg>\n'
    )


def _panel(
    title: str,
    points: Sequence[tuple[Row, float]],
    names: Sequence[str],
    search: Search,
    *,
    log: bool = False,
) -> str:
    """The values of trials over one thing."""
    label = escape(f"{search.metric} over {title}")
    parts = [f'<text x="{LEFT}" y="15" font-weight="600">{label}</text>']
    if not points:
        return "".join([*parts, f'<text x="{LEFT}" y="{HEIGHT // 2}">no value</text>'])
    xs = [math.log10(x) if log else x for _, x in points]
    ys = [row["value"] for row, _ in points]
    (x_low, x_high), (y_low, y_high) = _margins(xs), _margins(ys)

    def u(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def v(y: float) -> float:
        return HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    for y in ticks(y_low, y_high, 4):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v(y):.1f}" y2="{v(y):.1f}" '
            f'stroke="#e5e7eb"/><text x="{LEFT - 6}" y="{v(y) + 4:.1f}" text-anchor="end">{y:.4g}'
            "</text>"
        )
    numbers = [(x, f"{10**x if log else x:.3g}") for x in ticks(x_low, x_high, 4)]
    for x, name in list(enumerate(names)) or numbers:
        if x_low <= x <= x_high:
            parts.append(
                f'<text x="{u(x):.1f}" y="{HEIGHT - 12}" text-anchor="middle">{escape(name)}</text>'
            )
    best = best_of([row for row, _ in points], search.direction)
    for (row, _), x, y in zip(points, xs, ys, strict=True):
        done = row["state"] == "finished"
        color = COLORS[1] if row is best else COLORS[0] if done else "none"
        parts.append(
            f'<circle cx="{u(x):.1f}" cy="{v(y):.1f}" r="{5 if row is best else 3.5}" '
            f'fill="{color}" stroke="{COLORS[1] if row is best else COLORS[0]}">'
            f"<title>{escape(_said(row, search))}</title></circle>"
        )
    return "".join(parts)


def _said(row: Mapping[str, Any], search: Search) -> str:
    texts = " ".join(f"{key}={value}" for key, value in row["set"].items())
    return f"trial {row['trial']}, {row['state']}: {search.metric} {row['value']:.6g}, {texts}"


def _margins(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    apart = (high - low) * 0.06 or abs(low) * 0.05 or 1.0
    return low - apart, high + apart
