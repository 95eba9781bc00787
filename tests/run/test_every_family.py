"""Every family through the command line: train, resume exactly, sample, evaluate; by itself and by
two processes. A new family is covered at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from aigc_cli.modalities import find_modality
from aigc_cli.recipe.example import example_recipe
from aigc_cli.registry import data_kinds, load_data_kind, load_family
from aigc_cli.specs.image import AnyImageSpec
from tests.models.test_families import FAMILIES, TRAINED, build
from tests.run.conftest import Child, Ending, assert_same, load, rows_of

Aigc = Callable[..., Ending]
Start = Callable[..., Child]

TEXTS = [name for name in TRAINED if load_family(name).Model.makes == "text"]


@pytest.fixture
def recipe(here: Path) -> Callable[[str], str]:
    """Write the smallest recipe of a family and say where."""

    def write(family: str) -> str:
        path = here / f"{family}.yaml"
        path.write_text(yaml.safe_dump(example_recipe(family, here / "data").as_dict()))
        return path.name

    return write


@pytest.mark.parametrize("family", TRAINED)
def test_train_resume_sample_evaluate(
    aigc: Aigc, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    name = recipe(family)
    whole = aigc("train", name, "--out", "whole", "--quiet")
    assert whole.code == 0, whole.err
    assert aigc("train", name, "--out", "cut", "trainer.max_steps=2", "--quiet").code == 0
    (here / "cut/checkpoints/best.ckpt").unlink(missing_ok=True)  # from its end, step 2
    resumed = aigc("train", name, "--resume", "cut", "--quiet")
    assert resumed.code == 0, resumed.err
    whole_state, state = (load(here / f"{n}/checkpoints/last.ckpt") for n in ("whole", "cut"))
    for part in ("weights", "ema", "optimizers"):
        assert_same(whole_state[part], state[part], part)

    # A preview is what `aigc sample` makes of the same weights, byte for byte.
    previews = sorted((here / "whole/previews").iterdir())
    assert [path.name for path in previews] == ["step-0000000", "step-0000003"]
    made = aigc("sample", "whole/checkpoints/last.ckpt", "--out", "made", "--json")
    assert made.code == 0, made.err
    for file in previews[-1].rglob("*"):
        if file.name != "samples.json":
            same = here / "made" / file.relative_to(previews[-1])
            assert file.read_bytes() == same.read_bytes(), file.name

    again = aigc("sample", "whole/checkpoints/last.ckpt", "--out", "again", "--json")
    digests = [[item["sha256"] for item in ending.json["items"]] for ending in (made, again)]
    assert digests[0] == digests[1]
    assert digests[0]
    for item in made.json["items"]:
        if item["path"].endswith(".png"):
            with Image.open(here / "made" / item["path"]) as picture:
                picture.load()

    report = aigc("evaluate", "whole", "--json")
    assert report.code == 0, report.err
    if not getattr(load_family(family).Model, "same_image", False):  # compared image by image
        assert set(build(load_family(family)).metrics) <= set(report.json["metrics"])
    for measured in report.json["metrics"].values():
        assert measured["protocol"]


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(TRAINED)))
def test_what_needs_no_training_is_sampled_from_its_recipe(
    aigc: Aigc, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    name, model = recipe(family), load_family(family).Model
    first, *_, last = find_modality(model.takes).example_files(here / "given")
    references = [word for _ in range(model.reference_count[0]) for word in ("--reference", last)]
    made = aigc("sample", name, "--out", "made", "--json", "--input", first, *references)
    assert made.code == 0, made.err
    assert (here / "made" / made.json["items"][0]["path"]).is_file()
    ending = aigc("train", name)
    assert ending.code == 2
    assert "without training" in ending.err


@pytest.mark.slow
@pytest.mark.parametrize("family", TRAINED)
def test_two_processes_learn_what_one_learns(
    aigc: Aigc, child: Start, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    """Within rounding; batch normalization sees half of the batch and is left out, as is what
    compares a batch as a whole. Adam makes a whole step of a gradient that is nothing but rounding,
    so a few weights may differ.
    """
    name = recipe(family)
    assert aigc("train", name, "--out", "one", "--quiet").code == 0
    ending = child("train", name, "--devices", 2, "--out", "two").end()
    assert ending.code == 0, ending.err
    one, two = rows_of(here / "one"), rows_of(here / "two")
    assert [row["event"] for row in one] == [row["event"] for row in two]
    if _has_batch_norm(family):
        pytest.skip("batch statistics differ")
    for row, other in zip(one, two, strict=True):
        for key, value in row.items():
            of_batches = "block_" in key or "mutual_information" in key
            if key.startswith(("train/", "val/")) and not of_batches:
                assert other[key] == pytest.approx(value, rel=1e-3, abs=1e-4), key
    a, b = (load(here / f"{n}/checkpoints/last.ckpt")["weights"] for n in ("one", "two"))
    far = [~torch.isclose(value, b[key], rtol=1e-3, atol=1e-4) for key, value in a.items()]
    assert torch.cat([x.flatten() for x in far]).double().mean() < 0.005


@pytest.mark.slow
@pytest.mark.parametrize("family", TEXTS)
def test_texts_over_processes_and_parts_have_the_gradient_of_the_whole_batch(
    aigc: Aigc, child: Start, here: Path, recipe: Callable[[str], str], family: str
) -> None:
    """8 x 1 = 2 processes of 2 x 2, where texts differ in length."""
    steps = ["trainer.global_batch=8", "trainer.max_steps=1", "trainer.clip_norm=1000"]
    name = recipe(family)
    assert aigc("train", name, "--out", "one", "--quiet", *steps).code == 0
    spread = [*steps, "trainer.accumulate=2", "--devices", 2]
    ending = child("train", name, "--out", "two", *spread).end()
    assert ending.code == 0, ending.err
    one, two = rows_of(here / "one")[0], rows_of(here / "two")[0]
    for key in ("train/loss", "train/grad_norm"):
        assert two[key] == pytest.approx(one[key], rel=1e-5), key


def test_every_kind_of_data_has_an_example() -> None:
    accepted = {spec.kind for name in TRAINED for spec in load_family(name).Model.accepts}
    known = data_kinds()
    assert accepted - {AnyImageSpec.kind} <= known.keys()
    for kind in known:
        assert callable(load_data_kind(kind).example), kind


def _has_batch_norm(family: str) -> bool:
    return any(isinstance(m, torch.nn.BatchNorm2d) for m in build(load_family(family)).modules())
