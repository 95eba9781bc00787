"""Numbers of results come from records: none is typed into a page that has tables of them."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
MADE: dict[str, Any] = runpy.run_path(str(ROOT / "docs/make_results.py"))
ROWS: dict[str, dict[str, Any]] = MADE["records"]()
PAGES: dict[Path, str] = MADE["pages"]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_records(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == PAGES[page], "run `python docs/make_results.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_beside_them_has_a_measured_number(page: Path) -> None:
    rest = MADE["BLOCK"].sub("", page.read_text(encoding="utf-8"))
    rows = [line for line in rest.splitlines() if line.startswith("|")]
    typed = [row for row in rows if re.search(r"\d[.,]\d", row)]
    assert typed == [], "numbers without a record: see docs/make_results.py"


@pytest.mark.parametrize("row", ROWS)
def test_a_record_is_whole_and_its_numbers_can_be_had_again(row: str) -> None:
    record = ROWS[row]
    assert record["measures"].keys() == record["read"].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])
    assert re.fullmatch(r"[0-9a-f]{7,}", record["commit"])
    assert record["commands"]
    assert f"<!-- results {record['table']} -->" in (ROOT / record["page"]).read_text()


def test_a_record_that_lacks_something_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "row.json").write_text(json.dumps({"page": "docs/serve.md", "table": "serve"}))
    monkeypatch.setitem(MADE["records"].__globals__, "RECORDS", tmp_path)
    with pytest.raises(ValueError, match=r"row\.json: needs commands, commit"):
        MADE["records"]()


def test_measures_are_read_from_what_a_command_prints() -> None:
    printed = {"int8": {"quality": {"psnr": 30.5}}}
    assert MADE["value_at"](printed, "int8.quality.psnr") == 30.5
    assert MADE["value_at"](printed, "'dB'") == "dB"
    (line,) = MADE["compared"]({"psnr": 30.0}, {"psnr": 30.3})
    assert line.split() == ["psnr", "30.0", "->", "30.3", "+1.0", "%"]
