"""Models in the making of sets: judges, models that answer, objects that are drawn and pasted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from aigc_cli.data.boxes import example
from aigc_cli.errors import AigcError, InputError
from aigc_cli.media.image import Raster, read_image, to_tensor, write_image
from aigc_cli.recipe.example import example_recipe
from aigc_cli.recipe.load import recipe_from_text
from aigc_cli.run.augment import augment
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.train import train
from aigc_cli.run.trained import load_trained
from tests.augment.conftest import contents, killed_after, paint, rows
from tests.augment.test_generated import CLASSIFIER, FLOW


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `d` and `v`, boxes `boxes/coco.json`, and the runs `flow`, `judge`, `cells`,
    `plain` (without classes) and `cyclegan`.
    """
    folder = tmp_path_factory.mktemp("models")
    paint(folder / "d", {"a": 6, "b": 3}, side=8)
    pixels = read_image(folder / "d/a/000.png").pixels.copy()
    pixels[0, 0] ^= 1  # two are nearly the same, so that only copies are called so
    write_image(folder / "d/a/001.png", Raster(pixels))
    paint(folder / "v", {"a": 4, "b": 4}, side=8, seed=1)
    paint(folder / "cells", {"bar": 3, "square": 3}, side=8, seed=2)
    example(folder / "boxes")
    for name, data, more in (
        ("flow", "d", "conditional: true"), ("drawn", "cells", "conditional: true"),
        ("plain", "cells", "conditional: false"),
    ):  # fmt: skip
        text = FLOW.format(train=folder / data, val=folder / data, more=more)
        train(recipe_from_text(text), out=folder / name)
    judge = CLASSIFIER.replace("train: d", f"train: {folder / 'd'}")
    train(recipe_from_text(judge), out=folder / "judge")
    train(example_recipe("cyclegan", folder / "unpaired", max_steps=1), out=folder / "cyclegan")
    return folder


def asked(place: Path, out: Path, *sources: str, **more: object) -> Augmenting:
    return Augmenting(
        str(place / "d"), out, val=str(place / "v"),
        sources=tuple(str(place / source) for source in sources), workers=0, device="cpu", **more,
    )  # type: ignore[arg-type]  # fmt: skip


def test_a_judge_says_how_sure_it_is_of_each_item(place: Path, tmp_path: Path) -> None:
    request = asked(
        place, tmp_path / "o", "flow", balance="classes", judge=str(place / "judge"),
        min_confidence=0.0,
    )  # fmt: skip
    augment(request)
    judge = load_trained(str(place / "judge"), device="cpu")
    made = [line for line in rows(tmp_path / "o") if line["made"] == "generated"]
    assert len(made) == 3
    for line in made:
        pixels = read_image(tmp_path / "o" / line["path"]).as_channels(1).pixels
        with torch.no_grad():
            p = judge.model.classify_things([to_tensor(pixels)])[0, 1]  # type: ignore[operator]
        assert line["score"]["confidence"] == pytest.approx(float(p), abs=1e-4)


def test_what_a_judge_never_sees_ends_the_call(place: Path, tmp_path: Path) -> None:
    request = asked(
        place, tmp_path / "o", "flow", balance="classes", judge=str(place / "judge"),
        min_confidence=1.0,
    )  # fmt: skip
    with pytest.raises(AigcError, match=r"only 0 passed; dropped: \d+ unsure of their class"):
        augment(request)
    other = asked(place, tmp_path / "p", "flow", balance="classes", judge=str(place / "flow"))
    with pytest.raises(InputError, match="does not tell class 'b'"):
        augment(other)


def test_answers_keep_the_class_of_their_item(place: Path, tmp_path: Path) -> None:
    """CycleGAN changes the domain of training images."""
    augment(asked(place, tmp_path / "o", "cyclegan", factor=2.0))
    lines = rows(tmp_path / "o")
    made = [line for line in lines if line["made"] == "generated"]
    assert len(made) == 9
    copied = [line for line in lines if line["made"] == "copied" and line["split"] == "train"]
    digests = {line["source"]: line["digest"] for line in copied}
    for line in made:
        assert line["path"].split("/")[1] == line["label"] == line["source"].split("/")[0]
        assert line["origins"] == [digests[line["source"]]]
    twice = asked(place, tmp_path / "t", "cyclegan", "cyclegan", factor=2.0)
    augment(twice)
    assert len(rows(tmp_path / "t")[-1]["checkpoint"]) == 2


def drawing(place: Path, out: Path, model: str = "drawn", **more: object) -> Augmenting:
    return Augmenting(
        str(place / "boxes/coco.json"), out, ("paste=3",), sources=(str(place / model),),
        workers=0, device="cpu", factor=2.0, **more,
    )  # type: ignore[arg-type]  # fmt: skip


def test_drawn_objects_are_pasted_with_their_boxes(place: Path, tmp_path: Path) -> None:
    augment(drawing(place, tmp_path / "o"))
    lines = rows(tmp_path / "o")
    real = {line["source"]: line["objects"] for line in lines if line["made"] == "copied"}
    made = [line for line in lines if line["made"] == "generated"]
    assert len(made) == 5
    pasted = 0
    for line in made:
        before, after = real[line["source"]], line["objects"]
        classes = [operation["class"] for operation in line["operations"]]
        assert after["classes"] == [*before["classes"], *classes]
        assert all(operation["drawn"] for operation in line["operations"])
        pasted += len(classes)
    assert pasted >= 5
    notes = json.loads((tmp_path / "o/train/coco.json").read_text())
    assert len(notes["images"]) == 10


def test_a_killed_call_draws_the_same_objects(place: Path, tmp_path: Path) -> None:
    augment(drawing(place, tmp_path / "whole"))
    killed_after(8, drawing(place, tmp_path / "cut"))
    augment(drawing(place, tmp_path / "cut", go_on=True))
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


@pytest.mark.parametrize(
    ("model", "more", "sentence"),
    [
        ("plain", {}, "was not trained with classes"),
        ("flow", {}, "knows no class 'bar'"),
        ("judge", {}, "makes labels, and what is drawn into the data must be images"),
        ("drawn", {"judge": "judge"}, "--judge is for whole items"),
    ],
)
def test_a_model_that_draws_no_such_objects_is_refused(
    place: Path, tmp_path: Path, model: str, more: dict[str, str], sentence: str
) -> None:
    more = {key: str(place / value) for key, value in more.items()}
    with pytest.raises(InputError, match=sentence) as caught:
        augment(drawing(place, tmp_path / "o", model, **more))
    assert caught.value.hint, "says what to do instead"
