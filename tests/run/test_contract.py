"""A broken contract of a user's family is told with its file before anything is trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aigc_cli.models._contract import _broken
from aigc_cli.registry import families, load_data_kind, load_family
from aigc_cli.specs import SPECS
from tests.run.conftest import PLUGIN, Ending

Aigc = Callable[..., Ending]

CASES = {
    "no evaluate_batch": ("def evaluate_batch", "def judge_batch", "does not write evaluate_batch"),
    "no loss": ("def generator_loss", "def g_loss", "does not write generator_loss"),
    "another base": (
        "class Model(ImageModule, AdversarialModule)",
        "class Model(nn.Module)",
        "Model is no subclass of",
    ),
    "no specs": ("accepts = (ImageSpec,)", "accepts = ImageSpec", "Model.accepts must be a tuple"),
    "no direction": ('{"distance": "min"}', '{"distance": "low"}', "Model.metrics must give"),
    "no network": ('("generator",)', '("decoder",)', "its networks are generator, discriminator"),
    "a mistake in the code": ("self.d_steps = config.d_steps", "self.x = config.x", "no attribute"),
    "a mistake in the loss": (
        "return self.generator(z).unflatten(1, self.shape)\n\n    def disc",
        "return self.generator(z).unflatten(1, self.form)\n\n    def disc",
        "has no attribute 'form'",
    ),
    "other values": (
        'return {"distance": (batch',
        'return {"far": (batch',
        "evaluate_batch returns far, and metrics promises distance",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", [["--out", "run"], ["--dry-run"]], ids=["train", "dry-run"])
@pytest.mark.parametrize("case", CASES)
def test_the_file_of_the_family_is_named_and_not_aigc(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch, case: str, command: list[str]
) -> None:
    old, new, said = CASES[case]
    text = (PLUGIN / "models/toy/tiny_gan.py").read_text(encoding="utf-8")
    assert text.count(old) == 1
    file = here / "mine/models/toy/tiny_gan.py"
    file.parent.mkdir(parents=True)
    file.write_text(text.replace(old, new))
    monkeypatch.setenv("AIGC_PATH", str(here / "mine"))
    ending = aigc("train", "tiny_gan.yaml", *command)
    assert ending.code == 2, ending.err
    assert str(file) in ending.err
    assert said in ending.err
    assert "bug in aigc" not in ending.err
    assert "Traceback" not in ending.err


MISTAKES = {
    "data/tunes.py": ("    def stop_background", "    def stopped", "Data has no stop_background"),
    "modalities/tune.py": (
        "    def source_part",
        "    def facts_of",
        "Modality has no source_part",
    ),
    "modalities/tune.py ": (
        "return [File(path, facts)]",
        "return [(path, facts)]",
        "must be a list of",
    ),
    "metrics/tune/leaps.py": ("higher_is_better", "better", "Metric has no higher_is_better"),
}


@pytest.fixture
def no_other_specs() -> Iterator[None]:
    """A second copy of a file of specs takes the place of the first."""
    known = dict(SPECS)
    yield
    SPECS.clear()
    SPECS.update(known)


@pytest.mark.usefixtures("no_other_specs")
@pytest.mark.parametrize("file", MISTAKES)
def test_every_file_of_a_modality_is_named_for_its_mistakes(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    old, new, said = MISTAKES[file]
    shutil.copytree(PLUGIN, here / "mine")
    place = here / "mine" / file.strip()
    text = place.read_text(encoding="utf-8")
    assert old in text
    place.write_text(text.replace(old, new))
    monkeypatch.setenv("AIGC_PATH", str(here / "mine"))
    shutil.copy(PLUGIN / "recipes/tune/tune_vae.yaml", here)
    load_data_kind("tunes").example(here)
    if file.startswith("metrics"):
        ending = aigc("evaluate", "--metric", "list")
    else:
        ending = aigc("train", "tune_vae", "--out", "run", "data.train=scales.tune")
    assert ending.code == 2, ending.err
    assert str(place) in ending.err
    assert said in ending.err
    assert "bug in aigc" not in ending.err


@pytest.mark.parametrize("family", families())
def test_every_shipped_family_keeps_the_contract(family: str) -> None:
    assert list(_broken(load_family(family).Model)) == []
