"""Tables fit the terminal they are shown in; everything else gets whole rows, one a line."""

from __future__ import annotations

import re
import sys

import pytest
from rich.cells import cell_len

from aigc_cli.cli._table import pairs, records, table

ROWS = [
    {"recipe": "image/one", "makes": "photographs " * 9, "params": "1.4M", "minutes": 3},
    {
        "recipe": "image/another_one",
        "makes": "[red]图像[/red] :smile:",
        "params": "",
        "minutes": 12,
    },
    {"recipe": "text/two", "makes": "plays", "params": None, "minutes": 4.5},
]
COLUMNS = ("recipe", "makes", "params", "minutes")


@pytest.fixture(params=[20, 40, 80, 120, 400])
def width(request, monkeypatch) -> int:
    """A terminal of so many cells, without color."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("TERM", "dumb")
    return request.param


@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("grouped", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, wrap: bool, grouped: bool) -> None:
    text = table(ROWS, COLUMNS, wrap=wrap, grouped=grouped, drop=("params",))
    assert max(map(cell_len, text.splitlines())) <= width
    assert max(map(cell_len, records(ROWS, COLUMNS).splitlines())) <= width
    assert max(map(cell_len, pairs([("name", "word " * 99)]).splitlines())) <= width


def test_a_wrapped_table_loses_nothing(width: int) -> None:
    text = table(ROWS, COLUMNS)
    if width >= 80:  # which leaves room for the words
        assert text.count("photographs") == 9
        assert "[red]图像[/red]" in text
        assert ":smile:" in text


def test_groups_are_lines_and_names_stay_whole(width: int) -> None:
    lines = [line.split() for line in table(ROWS, COLUMNS, wrap=False, grouped=True).splitlines()]
    if width >= 40:
        assert [words[0] for words in lines if words] == [
            "recipe",
            "image",
            "one",
            "another_one",
            "text",
            "two",
        ]


def test_columns_of_little_weight_go_first(monkeypatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "60")
    assert "params" not in table(ROWS, COLUMNS, drop=("params",))
    monkeypatch.setenv("COLUMNS", "100")
    assert "params" in table(ROWS, COLUMNS, drop=("params",))


def test_a_pipe_gets_every_character(capsys) -> None:
    lines = table(ROWS, COLUMNS, wrap=False, grouped=True, drop=("params",)).splitlines()
    assert len(lines) == 1 + len(ROWS)
    assert lines[0].split() == list(COLUMNS)
    assert "image/one" in lines[1]
    assert ("photographs " * 9).strip() in lines[1]
    assert records(ROWS, COLUMNS) == "\n".join(lines)
    assert pairs([("name", "text")]) == "name:        text"


def test_color_is_for_terminals_that_want_it(monkeypatch) -> None:
    styles = {"state": {"failed": "red"}}
    rows = [{"run": "a", "state": "failed"}, {"run": "b", "state": "finished"}]

    def escapes() -> set[str]:
        text = table(rows, ("run", "state"), styles=styles)
        return set(re.findall(r"\x1b\[[\d;]*m", text))

    assert escapes() == set()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in escapes()
    monkeypatch.delenv("NO_COLOR")
    assert "\x1b[31m" in escapes()
