"""Pages of runs: all of a run on one page that needs nothing else, and curves that are right."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from aigc_cli.cli._app import invoke
from aigc_cli.errors import OutputError
from aigc_cli.run.curves import MOST_POINTS, chart, ticks
from aigc_cli.run.report import write_comparison, write_report

NEEDS_OTHERS = re.compile(r"""(?:src|href)="(?!data:)|url\((?!data:)|<script|https?://""")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as `aigc train` leaves it, small."""
    return make_run(tmp_path / "runs" / "one", [3.0, 2.0, 2.5])


def make_run(path: Path, losses: list[float], lr: float = 0.1) -> Path:
    preview = path / "previews" / "step-0000020"
    preview.mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(preview / "grid.png")
    soundfile.write(preview / "sample-00000.wav", np.zeros(80), 8000)
    (preview / "texts.txt").write_text("Hello <b>world</b> & co", encoding="utf-8")
    (path / "recipe.yaml").write_text(f"family: edsr\nmodel:\n  lr: {lr}\n")
    rows: list[dict[str, Any]] = []
    for number, loss in enumerate(losses):
        step = 10 * number
        rows += [{"event": "step", "step": step, "train/loss": loss, "lr": lr}]
        rows += [{"event": "val", "step": step, "val/psnr": 30 + number}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    best = {"metric": "psnr", "value": 31, "step": 10}
    status = {"state": "finished", "step": 20, "steps": 20, "seconds": 5.0, "best": best}
    (path / "status.json").write_text(json.dumps(status))
    command = [{"argv": ["aigc", "train", "a b"], "cwd": "/x", "time": "2026-11-30", "git": "1"}]
    (path / "command.json").write_text(json.dumps(command))
    (path / "environment.json").write_text('{"python": "3.11", "packages": {"torch": "2.15"}}')
    (path / "data.json").write_text('{"data.train": {"pictures": 7, "bad": []}}')
    score = {"value": 31.25, "bicubic": 30.5, "n": 5, "protocol": "Y of BT.601, border 2"}
    evaluation = {"model": {"step": 20}, "data": None, "metrics": {"psnr": score}}
    (path / "evaluations.jsonl").write_text(json.dumps(evaluation) + "\n")
    return path


class _Nesting(HTMLParser):
    """Whether every element is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def assert_whole(page: Path) -> str:
    """A page that is well formed and asks for nothing from elsewhere."""
    text = page.read_text(encoding="utf-8")
    assert NEEDS_OTHERS.search(text) is None
    parser = _Nesting()
    parser.feed(text)
    assert parser.open == []
    return text


def test_a_report_holds_everything_of_a_run(run: Path) -> None:
    text = assert_whole(write_report(run))
    for part in (
        *("31.25", "bicubic 30.5", "Y of BT.601, border 2"),  # the measure with its protocol
        *("data:image/png;base64,", "data:audio/wav;base64,"),
        "Hello &lt;b&gt;world&lt;/b&gt; &amp; co",
        *("family: edsr", "torch 2.15", "data.train", "pictures"),
        "aigc train &#39;a b&#39;",
        "best",
    ):
        assert part in text
    assert text.count("<polyline") == 3  # loss, lr and psnr


def test_a_run_of_which_nothing_is_left_but_its_recipe_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("family: edsr\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": null}\n{"st')
    assert "no value that is a number" in assert_whole(write_report(tmp_path))


def test_a_page_of_several_runs_names_what_differs(run: Path) -> None:
    other = make_run(run.parent / "two", [4.0], lr=0.2)
    text = assert_whole(write_comparison([run, other], run.parent / "page.html"))
    assert "model.lr" in text
    assert text.count("data:image/png") == 2


def test_pages_are_written_by_the_commands(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent.parent)
    assert invoke(["run", "report", "one"]) == 0
    assert capsys.readouterr().out == "runs/one/report.html\n"
    make_run(run.parent / "two", [4.0])
    assert invoke(["run", "compare", "runs/one", "runs/two", "--html", "c.html"]) == 0
    assert_whole(Path("c.html"))


def test_a_folder_in_the_place_of_a_page_is_one_sentence(run: Path) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        write_report(run, run.parent)


def test_points_lie_where_their_values_are() -> None:
    drawn = chart({"loss": [(0, 1.0), (10, 3.0), (20, 2.0)]})
    points = re.search(r'points="([^"]+)"', drawn)
    assert points
    (x0, y0), (x1, y1), (x2, y2) = (
        tuple(map(float, pair.split(","))) for pair in points[1].split()
    )
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y2) == pytest.approx((y0 - y1) / 2, abs=0.2)


def test_long_curves_are_thinned_and_keep_their_end() -> None:
    drawn = chart({"loss": [(n, float(n)) for n in range(100_000)]})
    points = re.search(r'points="([^"]+)"', drawn)
    assert points
    assert MOST_POINTS - 1 <= len(points[1].split()) <= MOST_POINTS + 1


@pytest.mark.parametrize(
    "low, high, found",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 3, [-2, 0, 2]),
        (3e-4, 5e-4, [3e-4, 3.5e-4, 4e-4, 4.5e-4, 5e-4]),
    ],
)
def test_ticks_are_round(low: float, high: float, found: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(found)
