"""The Python API: its surface, that it is light, and that it does what the commands do."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import aigc_cli
from aigc_cli import AigcError, evaluate, load, sample, train
from aigc_cli.cli import invoke

ROOT = Path(__file__).resolve().parents[1]
FEW = {"trainer.max_steps": 2, "trainer.validate_every": 2, "trainer.global_batch": 8,
       "model.widths": [4, 4, 4], "data.cache": "off"}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier after two steps."""
    out = tmp_path_factory.mktemp("api") / "run"
    assert train("classifier_demo", FEW, out=out, progress=False) == out
    return out


def test_surface_is_what_is_declared() -> None:
    assert set(aigc_cli.__all__) == {"AigcError", "Model", "evaluate", "load", "sample", "train"}
    assert dir(aigc_cli) == sorted([*aigc_cli.__all__, "__version__"])
    for name in aigc_cli.__all__:
        assert getattr(aigc_cli, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = aigc_cli.trian
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert all(f"`{name}" in page for name in aigc_cli.__all__)


def test_importing_imports_no_torch() -> None:
    code = (
        "import sys\nimport aigc_cli\nfrom aigc_cli import train, sample, evaluate, load\n"
        "heavy = {'torch', 'pytorch_lightning', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_training_is_that_of_the_command(run: Path, tmp_path: Path) -> None:
    words = [f"{key}={value}" for key, value in FEW.items()]
    out = tmp_path / "other"
    assert invoke(["train", "classifier_demo", "--out", str(out), "--quiet", *words]) == 0
    here, there = (
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["weights"]
        for folder in (run, out)
    )
    assert all(torch.equal(here[name], there[name]) for name in there)


def test_a_run_goes_on(run: Path, tmp_path: Path) -> None:
    again = train("classifier_demo", {**FEW, "trainer.max_steps": 1}, out=tmp_path / "run",
                  progress=False)  # fmt: skip
    assert train("classifier_demo", FEW, resume=again, progress=False) == again
    assert load(again / "checkpoints/last.ckpt").step == 2


def test_evaluating_gives_what_json_has(run: Path, capfd: Any) -> None:
    report = evaluate(run, ["accuracy"], limit=16)
    assert invoke(["evaluate", str(run), "-m", "accuracy", "--limit", "16", "--json"]) == 0
    assert report["metrics"] == json.loads(capfd.readouterr().out)["metrics"]
    with pytest.raises(AigcError, match="accuracy"):
        evaluate(run, require=["accuracy>=1.1"], limit=16)


def test_a_model_answers_a_path_and_an_image(run: Path, tmp_path: Path) -> None:
    image = Image.new("L", (28, 28), 90)
    image.save(tmp_path / "a.png")
    model = load(run)
    assert (model.step, model.recipe["family"]) == (2, "classifier")
    (by_path,), (by_image,) = model.sample(input=tmp_path / "a.png"), model.sample(input=image)
    assert {**by_path, "file": ""} == {**by_image, "file": ""}
    with pytest.raises(AigcError, match="must be a path or a PIL image"):
        model.sample(input=3)


def test_files_are_those_of_the_command(run: Path, tmp_path: Path) -> None:
    Image.new("L", (28, 28), 90).save(tmp_path / "a.png")
    files = sample(run, input=tmp_path / "a.png", out=tmp_path / "made")
    assert [path.name for path in files] == ["labels.csv"]
    with pytest.raises(AigcError, match="input: "):
        sample(run, input=tmp_path / "absent.png")


def test_mistakes_are_the_sentences_of_the_command() -> None:
    with pytest.raises(AigcError, match=r"trainer\.max_stepps: unknown key, did you mean"):
        train("classifier_demo", {"trainer.max_stepps": 3})
    with pytest.raises(AigcError, match="there is no recipe 'clasifier_demo'"):
        train("clasifier_demo")


def test_progress_where_no_terminal_is(run: Path, tmp_path: Path, capfd: Any) -> None:
    """As in a notebook: lines on stderr, and nothing on stdout."""
    train("classifier_demo", FEW, out=tmp_path / "run")
    out, err = capfd.readouterr()
    assert out == ""
    assert "validation" in err or "step 2" in err
    assert "\x1b" not in err
    assert len(err.splitlines()) < 15


def test_notebook_prints_what_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(ROOT / "docs/make_notebook.py"))
    notebook = json.loads(script["NOTEBOOK"].read_text(encoding="utf-8"))
    for cell, outputs in script["executed"](notebook):
        texts = [
            [output.get("text") or output["data"].get("text/plain") for output in one]
            for one in (cell["outputs"], outputs)
        ]
        assert texts[0] == texts[1], "python docs/make_notebook.py"
