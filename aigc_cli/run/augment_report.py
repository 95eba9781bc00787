"""The measured gain as a page of its own: table, bars of classes, no script, nothing to fetch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

COLORS = ("#8a8a8a", "#2f6db3", "#d1761f", "#3f8f4f", "#9b4f96")
ROW, BAR, LEFT, WIDE = 18, 12, 150, 520  # pixels


def interval_text(value: Mapping[str, float]) -> str:
    """`0.812 ± 0.004`."""
    half = value["high"] - value["mean"]
    return f"{value['mean']:.3f} ± {half:.3f}" if math.isfinite(half) else f"{value['mean']:.3f}"


def table_rows(measured: Mapping[str, Any]) -> list[dict[str, str]]:
    """A row for each arm, for the terminal and the page."""
    rows, names = [], measured["names"]
    for arm, found in measured["arms"].items():
        gain = found.get("gain")
        rows.append({
            "training data": arm,
            "items": f"{found['trained_on']:,}",
            **{said: interval_text(found["scores"][key]) for key, said in names.items()},
            "gain": "-" if gain is None else f"{gain[measured['decisive']]['mean']:+.3f}",
            "verdict": found.get("verdict", "-"),
        })  # fmt: skip
    return rows


def html(measured: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The whole page."""
    rows = table_rows(measured)
    head = "".join(f"<th>{escape(name)}</th>" for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.values()) + "</tr>"
        for row in rows
    )
    sizes = "".join(
        f"<tr><td>{escape(label or '(none)')}</td><td>{before:,}</td><td>{record['after'][label]:,}"
        "</td></tr>"
        for label, before in record["before"].items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<title>Augmentation of {escape(record["data"])}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
table{{border-collapse:collapse;margin:1rem 0}}td,th{{padding:.2rem .8rem;text-align:right;
border-bottom:1px solid #ddd}}td:first-child,th:first-child{{text-align:left}}</style>
<h1>Augmentation of {escape(record["data"])}</h1>
<p>{escape(" ".join([measured["yardstick"], *measured["overrides"]]))}, {measured["steps"]:,} steps,
{measured["seeds"]} seeds, judged on {measured["n"]:,} real items of {escape(measured["test"])}.</p>
<table><tr>{head}</tr>{body}</table>
<p>{escape(measured["protocol"])}.</p>
<h2>Classes, by {escape(measured["class_score"])}</h2>{class_plot(measured)}
<h2>Training items</h2><table><tr><th>class</th><th>before</th><th>after</th></tr>{sizes}</table>
</html>
"""


def class_plot(measured: Mapping[str, Any]) -> str:
    """Bars with their intervals as SVG, a group for each class."""
    arms = list(measured["arms"].items())
    labels = list(arms[0][1]["classes"])
    group = ROW * len(arms) + 10
    parts = []
    for i, label in enumerate(labels):
        top = i * group
        parts.append(
            f'<text x="{LEFT - 8}" y="{top + group / 2}" text-anchor="end">{escape(label)}</text>'
        )
        for j, (_, found) in enumerate(arms):
            value, y = found["classes"][label], top + j * ROW
            color = COLORS[j % len(COLORS)]
            parts.append(
                f'<rect x="{LEFT}" y="{y}" width="{WIDE * value["mean"]:.1f}" height="{BAR}" '
                f'fill="{color}"/>'
            )
            if math.isfinite(value["low"]):
                low, high = (LEFT + WIDE * min(max(value[k], 0), 1) for k in ("low", "high"))
                middle = y + BAR / 2
                parts.append(f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#000"/>')
            parts.append(
                f'<text x="{LEFT + WIDE + 8}" y="{y + BAR - 1}">{value["mean"]:.2f}</text>'
            )
    bottom = len(labels) * group
    for j, (arm, _) in enumerate(arms):
        y, color = bottom + 10 + j * ROW, COLORS[j % len(COLORS)]
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{BAR}" height="{BAR}" fill="{color}"/>')
        parts.append(f'<text x="{LEFT + 20}" y="{y + BAR - 1}">{escape(arm)}</text>')
    height = bottom + 20 + len(arms) * ROW
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 60}" height="{height}" '
        f'font-size="12" font-family="sans-serif">{"".join(parts)}</svg>'
    )
