"""Tables: fitted to the width of a terminal, and whole, plain and one row a line everywhere else.

A pipe or a file gets every character of every cell, so that grep, awk and a later reader find what
is there. A terminal gets what fits: columns of little weight are left out, and the widest ones
are cut or wrapped. Color marks only what the caller says it marks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from shutil import get_terminal_size
from typing import Any

GAP = 2  # spaces between columns
NARROWEST = 36  # of the columns that give way, before another one is left out

Row = Mapping[str, Any]
Styles = Mapping[str, Mapping[str, str]]

_NUMBER = re.compile(r"[+-]?\d[\d,.]*( ?[kMGT]?B|[kMGT]| ?%)?")


def table(
    rows: Iterable[Row],
    columns: Sequence[str],
    *,
    wrap: bool = True,
    drop: Sequence[str] = (),
    grouped: bool = False,
    styles: Styles | None = None,
) -> str:
    """The rows under the names of the columns; `-` where a row has no value.

    The rest concerns terminals only:

    wrap: a column that is too wide goes on in the next line; otherwise it ends in an ellipsis.
    drop: columns to leave out, in this order, where there is no room for all.
    grouped: rows whose first cell is GROUP/NAME stand as NAME under a line GROUP.
    styles: {column: {value: style of rich}}.
    """
    lines = [{c: cell(row.get(c)) for c in columns} for row in rows]
    if not sys.stdout.isatty():
        return _plain(lines, columns)
    return _fitted(lines, columns, wrap=wrap, drop=drop, grouped=grouped, styles=styles or {})


def records(rows: Iterable[Row], columns: Sequence[str]) -> str:
    """Every row as a block, one `column  value` a line, for rows too wide for any terminal."""
    if not sys.stdout.isatty():
        return table(rows, columns)
    first, *rest = columns
    from rich.table import Table

    blocks: list[Any] = []
    for row in rows:
        grid = Table.grid(padding=(0, GAP, 0, 0))
        grid.add_column(no_wrap=True, width=GAP + max(map(len, rest)))
        grid.add_column()
        for name in rest:
            if (text := cell(row.get(name))) != "-":
                grid.add_row(_text(f"{' ' * GAP}{name}", "dim"), _text(text))
        blocks += [_text(cell(row.get(first)), "bold"), grid, _text("")]
    return _drawn(*blocks[:-1])


def pairs(items: Iterable[tuple[str, str]], width: int = 13) -> str:
    """`name:  text` lines; on a terminal a long text goes on below its beginning."""
    items = list(items)
    width = max([width, *(len(name) + GAP for name, _ in items)])
    if not sys.stdout.isatty():
        return "\n".join(f"{name + ':':{width}}{text}".rstrip() for name, text in items)
    from rich.table import Table

    grid = Table.grid()
    grid.add_column(width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in items:
        grid.add_row(_text(f"{name}:", "dim"), _text(text))
    return _drawn(grid)


def cell(value: Any) -> str:
    """A value as a table shows it: thousands apart, `-` for nothing."""
    if value is None or value == "":
        return "-"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _plain(lines: Sequence[Mapping[str, str]], columns: Sequence[str]) -> str:
    from rich.cells import cell_len

    cells = [list(columns), *(list(line.values()) for line in lines)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    gap = " " * GAP
    padded = (
        gap.join(c + " " * (w - cell_len(c)) for c, w in zip(line, widths, strict=True))
        for line in cells
    )
    return "\n".join(map(str.rstrip, padded))


def _fitted(
    lines: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    *,
    wrap: bool,
    drop: Sequence[str],
    grouped: bool,
    styles: Styles,
) -> str:
    from itertools import groupby

    from rich.table import Table

    first = columns[0]
    groups = [line[first].rpartition("/")[0] if grouped else "" for line in lines]
    if grouped:
        lines = [{**line, first: line[first].rpartition("/")[2]} for line in lines]
    widths = _widths(lines, columns, drop)
    numbers = {c for c in widths if all(_NUMBER.fullmatch(v[c]) for v in lines if v[c] != "-")}
    shown = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for name, width in widths.items():
        shown.add_column(
            name,
            width=width,
            justify="right" if name in numbers else "left",
            no_wrap=not wrap,
            overflow="fold" if wrap else "ellipsis",
        )
    for group, members in groupby(zip(groups, lines, strict=True), key=lambda pair: pair[0]):
        if group:
            shown.add_row()
            shown.add_row(_text(group, "bold"))
        for _, line in members:
            shown.add_row(*(_text(line[c], _style(styles, c, line[c])) for c in widths))
    return _drawn(shown)


def _widths(
    lines: Sequence[Mapping[str, str]], columns: Sequence[str], drop: Sequence[str]
) -> dict[str, int]:
    """{column: cells} of the columns that fit beside each other into the terminal."""
    from rich.cells import cell_len

    room, first = _console().width, columns[0]
    widths = {c: max(map(cell_len, (c, *(line[c] for line in lines)))) for c in columns}

    def excess(limit: int) -> int:
        """Cells too many when no column but the first is wider than the limit."""
        taken = sum(w if c == first else min(w, limit) for c, w in widths.items())
        return taken + GAP * len(widths) - room  # rich counts a gap after the last column too

    for name in drop:
        if excess(NARROWEST) > 0:
            del widths[name]
    for _ in range(excess(10**9)):
        widest = max(widths, key=lambda c: 2 if c == first else widths[c])
        widths[widest] = max(1, widths[widest] - 1)
    return widths


def _style(styles: Styles, column: str, value: str) -> str:
    return "dim" if value == "-" else styles.get(column, {}).get(value, "")


def _text(text: str, style: str = "") -> Any:
    """Text as it stands: what looks like markup or like an emoji's name is neither."""
    from rich.text import Text

    return Text(text, style)


def _console() -> Any:
    from rich.console import Console

    # measured here, since rich takes a TERM=dumb for 80 columns
    columns, lines = get_terminal_size()
    return Console(highlight=False, width=columns, height=lines)


def _drawn(*parts: Any) -> str:
    console = _console()
    with console.capture() as capture:
        console.print(*parts, sep="\n")
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
