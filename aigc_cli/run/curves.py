"""Curves of a run as SVG, for a page that needs no other file and no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 440, 220
LEFT, RIGHT, TOP, BOTTOM = 62, 12, 10, 26
"""Pixels of the drawing around its axes."""
MOST_POINTS = 600
COLORS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")

Points = Sequence[tuple[float, float]]


def chart(curves: Mapping[str, Points], *, mark: Mapping[str, float] | None = None) -> str:
    """An SVG of one or more curves over training steps, each in its color of COLORS.

    curves: (step, value) by name; values that are not finite are gaps. mark: the step of a curve's
    best value, by name. Without a finite value the drawing says so.
    """
    finite = {name: _thinned(points) for name, points in curves.items()}
    xs = [x for points in finite.values() for x, _ in points]
    ys = [y for points in finite.values() for _, y in points if math.isfinite(y)]
    if not ys:
        return '<p class="none">no value that is a number</p>'
    x_low, x_high = _range(xs)
    y_low, y_high = _range(ys)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(", ".join(curves))}">'
    ]
    for y in ticks(y_low, y_high):
        _, v = at(x_low, y)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{v + 4:.1f}" class="y">{_label(y)}</text>')
    for x in ticks(x_low, x_high):
        u, _ = at(x, y_low)
        side = "end" if u > WIDTH - 30 else "middle"
        parts.append(f'<text x="{u:.1f}" y="{HEIGHT - 8}" text-anchor="{side}">{_label(x)}</text>')
    for number, (name, points) in enumerate(finite.items()):
        color = COLORS[number % len(COLORS)]
        for piece in _pieces(points):
            path = " ".join(f"{u:.1f},{v:.1f}" for u, v in (at(*point) for point in piece))
            parts.append(f'<polyline points="{path}" stroke="{color}"/>')
        step = (mark or {}).get(name)
        shown = points if len(points) < 30 else [p for p in points if p[0] == step]
        for x, y in shown:
            if math.isfinite(y):
                u, v = at(x, y)
                radius = 4.5 if x == step else 2.5
                said = f"{escape(name)}: {y:.6g} at step {x:,.0f}" + (", best" if x == step else "")
                parts.append(
                    f'<circle cx="{u:.1f}" cy="{v:.1f}" r="{radius}" fill="{color}">'
                    f"<title>{said}</title></circle>"
                )
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About so many round numbers in [low, high]: 1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Least and most, a little apart where they are equal."""
    low, high = min(values), max(values)
    if high > low:
        return low, high
    apart = abs(low) * 0.05 or 1.0
    return low - apart, high + apart


def _thinned(points: Points) -> Points:
    """Every so manieth point, the last one always."""
    step = -(-len(points) // MOST_POINTS) or 1
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _pieces(points: Points) -> list[Points]:
    """The runs of finite values."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            pieces[-1].append(point)
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _label(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.4g}"
