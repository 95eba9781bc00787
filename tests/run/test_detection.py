"""Detectors through the shell: trained on notes of boxes, looking at images of any size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from aigc_cli.data._box_files import read_notes
from aigc_cli.data.boxes import Data
from aigc_cli.media.boxes import Boxes, coco_image, coco_json, coco_objects
from aigc_cli.media.image import Raster, read_image, write_image
from aigc_cli.metrics.boxes._coco import image_ap
from aigc_cli.recipe.example import example_recipe
from aigc_cli.registry import load_family
from aigc_cli.sampling.noise import SampleNoise
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
DETECTORS = ("faster_rcnn", "ssd", "yolo")


def write_recipe(here: Path, family: str, **data: object) -> str:
    whole = example_recipe(family, here / "data").as_dict()
    whole["data"] |= data
    (here / "recipe.yaml").write_text(yaml.safe_dump(whole))
    return "recipe.yaml"


def test_a_surer_box_counts_first_whatever_its_place_in_the_file(aigc: Aigc, here: Path) -> None:
    """Average precision of a right box and a less sure wrong one: 1; the other way 0.5."""
    image, classes = coco_image(1, "a.png", 100, 100), {"cell": 1}
    real = Boxes(np.array([[10.0, 10, 40, 40]]), ("cell",))
    right_and_wrong = np.array([[50.0, 50, 90, 90], [10, 10, 40, 40]])
    (here / "real.json").write_bytes(coco_json([image], coco_objects(real, 1, 1, classes), classes))
    for right, value in ((0.9, 1.0), (0.1, 0.5)):
        found = Boxes(right_and_wrong, ("cell", "cell"), np.array([0.5, right]))
        notes = coco_json([image], coco_objects(found, 1, 1, classes), classes)
        (here / "found.json").write_bytes(notes)
        ending = aigc("evaluate", "--generated", "found.json", "--reference", "real.json", "--json")
        assert ending.code == 0, ending.err
        assert ending.json["metrics"]["map_50"]["value"] == pytest.approx(value, abs=1e-6)


def test_found_boxes_are_in_pixels_of_the_photo(aigc: Aigc, here: Path) -> None:
    assert aigc("train", write_recipe(here, "yolo"), "--out", "run", "--quiet").code == 0
    rng = np.random.default_rng(0)
    write_image(here / "photo.png", Raster(rng.integers(0, 256, (150, 300, 3), dtype=np.uint8)))
    ending = aigc("sample", "run", "--input", "photo.png", "--out", "found", "score=0.001")
    assert ending.code == 0, ending.err
    notes = json.loads((here / "found/boxes.json").read_text())
    assert notes["images"] == [{"id": 1, "file_name": "photo.png", "width": 300, "height": 150}]
    assert [entry["name"] for entry in notes["categories"]] == ["bar", "square"]
    edges = np.array([entry["bbox"] for entry in notes["annotations"]])
    assert (edges[:, 0] + edges[:, 2]).max() > 150  # beyond the model's 64
    assert (edges[:, 0] + edges[:, 2]).max() <= 300.01
    assert (edges[:, 1] + edges[:, 3]).max() <= 150.01
    assert all(0.001 <= entry["score"] <= 1 for entry in notes["annotations"])
    drawn = read_image(here / "found/photo.png")
    assert (drawn.width, drawn.height) == (300, 150)

    # What was found is a source of data, and measured against itself it is perfect.
    shown = aigc("data", "show", "found/boxes.json")
    assert "boxes    " in shown.out
    assert "faults" not in shown.out
    moved = json.dumps(notes).replace("photo.png", "images/photo.png")
    (here / "moved.json").write_text(moved)
    scored = [entry["score"] for entry in notes["annotations"]]
    assert read_notes("found/boxes.json").images[0].boxes.scores == pytest.approx(scored)
    for reference in ("found/boxes.json", "moved.json"):
        again = aigc(
            "evaluate", "--generated", "found/boxes.json", "--reference", reference, "--json"
        )
        assert again.code == 0, again.err
        assert again.json["metrics"].keys() == {"map_50", "map"}
        assert again.json["metrics"]["map_50"]["value"] == pytest.approx(1)


@pytest.mark.parametrize("family", DETECTORS)
def test_a_detector_is_judged_by_coco_and_beside_the_mean_box(
    aigc: Aigc, here: Path, family: str
) -> None:
    name = write_recipe(here, family)
    assert aigc("train", name, "--out", "run", "trainer.max_steps=1", "--quiet").code == 0
    ending = aigc("evaluate", "run", "--json")
    assert ending.code == 0, ending.err
    found = ending.json["metrics"]
    assert {"image_ap_50", "map_50", "map"} <= found.keys()
    (real,) = Data(example_recipe(family, here / "data").data).report["data.val"].objects
    spec = Data(example_recipe(family, here / "data").data).spec
    mean = np.array(spec.mean_boxes).reshape(-1, 4) * (64, 64, 64, 64)
    expected = image_ap(Boxes(mean, spec.labels, np.ones(2)), real)
    assert found["image_ap_50"]["mean box"] == pytest.approx(expected)
    assert "the surest 100 boxes" in found["map_50"]["protocol"]
    assert [row["class"] for row in ending.json["classes"]] == ["bar", "square"]


@pytest.mark.parametrize("family", DETECTORS)
def test_a_detector_learns_what_it_sees(here: Path, family: str) -> None:
    """The loss of two images falls by far within a few steps."""
    recipe = example_recipe(family, here / "data")
    data, module = Data(recipe.data), load_family(family)
    torch.manual_seed(0)
    model = module.Model(module.Config.tiny(lr=0.01), data.spec)
    batch = data.val.collate([data.train.scenes[i] for i in range(2)])
    (optimizer,) = [model.configure_optimizers()]
    losses = []
    for _ in range(30):
        loss = model.loss(batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-3:]) < 0.6 * losses[0]


@pytest.mark.parametrize("family", DETECTORS)
def test_an_image_without_objects_trains(here: Path, family: str) -> None:
    recipe = example_recipe(family, here / "data")
    data, module = Data(recipe.data), load_family(family)
    torch.manual_seed(0)
    model = module.Model(module.Config.tiny(), data.spec)
    one = data.val[0]
    none = {"image": one["image"], "boxes": one["boxes"][:0], "classes": one["classes"][:0]}
    terms = model.loss(data.val.collate([none, none]))
    assert all(bool(value.isfinite()) for value in terms.values())
    assert [len(real) for real in model.real(data.val.collate([none, one]))] == [0, 3]


def test_of_two_boxes_on_one_object_the_surer_is_told(here: Path) -> None:
    recipe = example_recipe("yolo", here / "data")
    module, spec = load_family("yolo"), Data(recipe.data).spec
    model = module.Model(module.Config.tiny(), spec)
    raw = (
        torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [-5, 50, 80, 90]]),
        torch.tensor([0.5, 0.9, 0.7, 0.4]),
        torch.tensor([0, 0, 1, 1]),
    )
    model.raw = lambda images, score: [raw]
    (found,) = model.find(torch.zeros(1, 3, 64, 64), module.Options())
    assert found.scores is not None
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.4])
    assert found.names == ("bar", "square", "square")
    assert found.boxes[2].tolist() == [0, 50, 64, 64]  # cut at the edge
    answers = model.sample(SampleNoise(0, 0, 2), module.Options(), torch.zeros(3, 64, 64))
    assert [isinstance(answer, Boxes) for answer in answers] == [True, True]
