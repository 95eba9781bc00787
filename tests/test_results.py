"""Numbers of results come from records: none is typed into a page that has tables of them."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MADE: dict[str, Any] = runpy.run_path(str(ROOT / "docs/make_results.py"))
PAGES: dict[Path, str] = MADE["pages"]()
RECORD = {
    "name": "squares",
    "row": "squares | {psnr_y:.2f} dB",
    "recipe": "edsr_demo",
    "hardware": "one core",
    "seed": 0,
    "date": "unknown",
    "commit": "unknown",
    "commands": ["echo 1 > kept", """echo '{"metrics": {"psnr_y": {"value": 30.3}}}'"""],
    "read": {"psnr_y": "metrics.psnr_y.value"},
    "measures": {"psnr_y": 30.0, "minutes": 2},
}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What docs/make_results.py has, of a project with one table of one row."""
    made = runpy.run_path(str(ROOT / "docs/make_results.py"))
    names = made["tables"].__globals__
    (tmp_path / "docs/records").mkdir(parents=True)
    monkeypatch.setitem(names, "ROOT", tmp_path)
    monkeypatch.setitem(names, "RECORDS", tmp_path / "docs/records")
    write(tmp_path, RECORD)
    (tmp_path / "README.md").write_text("Few.\n\n<!-- results demos -->\n<!-- end -->\n")
    return made


def write(folder: Path, *rows: dict[str, Any]) -> None:
    text = yaml.safe_dump({"head": "recipe | measured", "rows": list(rows)}, sort_keys=False)
    (folder / "docs/records/demos.yaml").write_text(text)


def test_readme_and_results_have_tables_of_records() -> None:
    assert {ROOT / "README.md", ROOT / "docs/results.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_records(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == PAGES[page], "run `python docs/make_results.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_beside_them_has_a_measured_number(page: Path) -> None:
    rest = MADE["BLOCK"].sub("", page.read_text(encoding="utf-8"))
    rows = [line for line in rest.splitlines() if line.startswith("|")]
    typed = [row for row in rows if MADE["TYPED"].search(row)]
    assert typed == [], "numbers without a record: see docs/make_results.py"


def test_every_table_has_its_page() -> None:
    shown = {name for text in PAGES.values() for name, _ in MADE["BLOCK"].findall(text)}
    assert shown == set(MADE["tables"]())


def test_what_is_read_again_is_a_measure_of_the_record() -> None:
    for name, record in MADE["records"]().items():
        assert record.read.keys() <= (record.measures or record.read).keys(), name


def test_a_row_shows_the_measures_of_its_record(make: dict[str, Any]) -> None:
    (text,) = make["pages"]().values()
    assert "| recipe | measured |\n|---|---|\n| squares | 30.00 dB |\n<!-- end -->" in text


def test_a_row_may_quote_another_record(make: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, RECORD, {"row": "the same | {squares.minutes:.1f} minutes"})
    (text,) = make["pages"]().values()
    assert "| the same | 2.0 minutes |" in text


def test_a_table_in_chinese_wants_every_row_in_chinese(
    make: dict[str, Any], tmp_path: Path
) -> None:
    page = tmp_path / "README.md"
    page.write_text(page.read_text().replace("demos -->", "demos zh -->"))
    with pytest.raises(ValueError, match="needs `zh`"):
        make["pages"]()
    write(tmp_path, {**RECORD, "zh": "方形 | {psnr_y:.2f} dB"})
    assert "| 方形 | 30.00 dB |" in make["pages"]()[page]


def test_a_row_that_is_not_measured_yet_is_not_shown(make: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, {**RECORD, "measures": None})
    (text,) = make["pages"]().values()
    assert "squares" not in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": "squares | 30.00 dB"}, "'30.00' is typed, not a measure"),
        ({"row": "squares | 30 dB"}, "'30 dB' is typed, not a measure"),
        ({"row": "squares | {ssim_y:.3f}"}, "no record has this measure: 'ssim_y'"),
        ({"commit": "last"}, r"commit\n"),
        ({"commands": 5}, r"commands"),
        ({"speed": 5}, r"speed\n"),
    ],
)
def test_a_record_that_is_not_whole_is_refused(
    make: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    write(tmp_path, {**RECORD, **change})
    with pytest.raises(ValueError, match=message):
        make["pages"]()


def test_two_records_of_one_name_are_refused(make: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, RECORD, RECORD)
    with pytest.raises(ValueError, match="squares: more than one record of this name"):
        make["records"]()


def test_a_row_is_measured_again_and_kept(
    make: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make["main"](["run", "squares"])
    assert re.findall(r"\S.*\S", capsys.readouterr().out) == [
        "psnr_y           30.0 -> 30.3  +1.0 %",
        "minutes          2 -> not read from what the commands print",
    ]
    assert (tmp_path / "results/squares/kept").exists()
    make["keep"]("squares", {"psnr_y": 30.3})
    record = make["records"]()["squares"]
    assert record.measures == {"psnr_y": 30.3, "minutes": 2}
    assert record.date != "unknown"


def test_a_command_that_fails_is_named(make: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, {**RECORD, "commands": ["exit 3"]})
    with pytest.raises(SystemExit, match="ended with exit code 3: exit 3"):
        make["main"](["run", "squares"])


@pytest.mark.parametrize(
    ("number", "spec", "shown"),
    [(0.3075, ".3f", "0.308"), (0.2995, ".3f", "0.300"), (31043, ",", "31,043")],
)
def test_numbers_are_rounded_as_they_are_written(number: float, spec: str, shown: str) -> None:
    assert MADE["Numbers"]().format_field(number, spec) == shown


def test_measures_are_read_from_what_a_command_prints() -> None:
    printed = {"int8": {"quality": {"psnr": 30.5}}}
    assert MADE["value_at"](printed, "int8.quality.psnr") == 30.5
    assert MADE["value_at"](printed, "'dB'") == "dB"
