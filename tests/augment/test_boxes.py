"""Boxes move along with their images, and pasted objects bring theirs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from aigc_cli.augment._augmentation import Draw
from aigc_cli.augment._box_operations import Scene, along, blended, most_shared
from aigc_cli.augment.boxes import Augmentation, Options
from aigc_cli.data._box_parts import open_boxes
from aigc_cli.data.boxes import example
from aigc_cli.errors import InputError
from aigc_cli.media.boxes import Boxes
from aigc_cli.media.image import Raster
from aigc_cli.run.augment import augment, augment_and_measure
from aigc_cli.run.augment_measure import Yardstick
from aigc_cli.run.augmenting import Augmenting
from tests.augment.conftest import Aigc, contents, rows

PLAIN = {"light": 0.0, "color": 0.0, "noise": 0.0}


@pytest.fixture
def notes(tmp_path: Path) -> str:
    """Six images of 64 x 48 with bright bars and squares on gray."""
    return str(example(tmp_path / "d")["train"])


def spot(x: int, y: int, side: int = 10, size: int = 64) -> Scene:
    """A white square on black, with its box and outline."""
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[y : y + side, x : x + side] = 255
    box = np.array([[x, y, x + side, y + side]], dtype=np.float64)
    corners = np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)
    return Scene(Raster(pixels), Boxes(box, ("spot",), outlines=((corners,),)))


@pytest.mark.parametrize("seed", range(8))
def test_a_moved_box_holds_its_object_and_little_else(seed: int) -> None:
    """Where the white square went, there is its box; what lies beyond the edge is not mirrored."""
    options = Options(rotation=30, shear=10, scale=0.3, crop=0.1, **PLAIN)
    scene = spot(24, 30)
    varied = Augmentation(options).vary(scene, None, 0, [0], Draw(1, seed))
    white = varied.thing.picture.pixels[..., 0] > 160
    y, x = np.nonzero(white)
    (box,) = varied.thing.objects.boxes
    found = [x.min(), y.min(), x.max() + 1, y.max() + 1]
    np.testing.assert_allclose(box, found, atol=1.5)
    (polygon,) = varied.thing.objects.outlines[0]
    np.testing.assert_allclose([*polygon.min(0), *polygon.max(0)], box, atol=1e-6)


def test_what_leaves_the_image_is_no_object() -> None:
    scene = spot(2, 2)
    gone = along(scene.objects, lambda points: points - 11, 64, 64)
    assert len(gone) == 0
    half = along(scene.objects, lambda points: points - (6, 0), 64, 64)
    assert half.boxes.tolist() == [[0, 2, 6, 12]]


def test_pasted_objects_bring_their_boxes(notes: str) -> None:
    part = open_boxes(notes)
    still = {"scale": 0.0, "crop": 0.0, "flip": False, "blend": 0.0, "tone": 0.0}
    augmentation = Augmentation(Options(paste=4, **still, **PLAIN))
    scenes = augmentation.open(notes, "DATA", ())
    pasted = 0
    for number in range(6):
        varied = augmentation.vary(scenes.read(number), scenes, number, range(6), Draw(0, number))
        operations = [o for o in varied.operations if o["name"] == "paste"]
        assert len(operations) == len(varied.sources) <= 4
        before, after = part.objects[number], varied.thing.objects
        assert after.names == (*before.names, *(o["class"] for o in operations))
        for box, operation in zip(after.boxes[len(before) :], operations, strict=True):
            left, top, right, bottom = operation["box"]
            assert box.tolist() == operation["box"]
            middle = varied.thing.picture.pixels[(top + bottom) // 2, (left + right) // 2]
            assert middle[1] > 150  # bright, as all objects of the example
        for i in range(len(before), len(after)):
            assert most_shared(after.boxes[i], after.boxes[:i]) <= 0.3
        pasted += len(operations)
    assert pasted >= 6


def test_blending_keeps_the_middle_and_takes_on_the_tone() -> None:
    under, over = torch.full((3, 20, 20), 0.2), torch.full((3, 20, 20), 0.6)
    over[:, 5:15, 5:15] = 0.9
    whole = torch.ones(20, 20)
    assert torch.equal(blended(under, over, whole, 0, 0), over)
    soft = blended(under, over, whole, 0.2, 0)
    assert soft[0, 10, 10] == pytest.approx(0.9)
    assert 0.2 < float(soft[0, 0, 10]) < float(soft[0, 2, 10]) <= 0.6
    toned = blended(under, over, whole, 0, 1)
    assert toned[0, 0, 0] == pytest.approx(0.2)
    assert toned[0, 10, 10] == pytest.approx(0.5)
    assert torch.equal(blended(under, over, torch.zeros(20, 20), 0.2, 1), under)


def test_a_set_with_boxes_is_read_back_and_the_same_for_any_workers(
    notes: str, tmp_path: Path
) -> None:
    options = ("paste=2", "crops=16")
    for name, workers in (("one", 0), ("two", 2)):
        augment(Augmenting(notes, tmp_path / name, options, factor=3, workers=workers))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    train, val = (open_boxes(str(tmp_path / "one" / split)) for split in ("train", "val"))
    assert (len(train), len(val)) == (15, 1)
    assert train.faults == val.faults == []
    lines = {Path(line["path"]).name: line for line in rows(tmp_path / "one")}
    for number in range(len(train)):
        noted = lines[train.name(number)]["objects"]
        assert list(train.objects[number].names) == noted["classes"]
    crops = list((tmp_path / "one/objects").rglob("*.png"))
    assert len(crops) == 5 * 3


def test_mistakes_in_notes_are_told_and_can_be_left_out(
    aigc: Aigc, notes: str, tmp_path: Path
) -> None:
    whole = json.loads(Path(notes).read_text())
    whole["annotations"][0]["bbox"] = [5, 5, 0, 9]
    whole["images"].append({"id": 99, "file_name": "gone.png"})
    Path(notes).write_text(json.dumps(whole))
    code, out, err = aigc("augment", notes, "--out", "o")
    assert code == 2
    assert "images that are not there: 1" in err
    assert "boxes without width or height: 1" in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "o").exists() or not any((tmp_path / "o").iterdir())
    code, _, err = aigc("augment", notes, "--out", "o", "data.on_error=skip")
    assert code == 0
    assert "left out: 1 images that are not there" in err
    assert "left out: 1 boxes without width or height" in err
    code, _, err = aigc(
        "augment", notes, "--out", "b", "--balance", "classes", "data.on_error=skip"
    )
    assert code == 2
    assert "the items have no classes" in err


DETECTOR = """
family: yolo
data: {kind: boxes, train: d, width: 64, height: 64, cache: "off"}
model: {widths: [4, 4, 8, 8, 8], neck: 8, depth: 1}
trainer: {max_steps: 2, global_batch: 2, precision: fp32}
"""


def test_measuring_scores_a_detector_by_mean_average_precision(notes: str, tmp_path: Path) -> None:
    """The scores are those of the metric, of the same boxes."""
    (tmp_path / "yolo.yaml").write_text(DETECTOR)
    request = Augmenting(notes, tmp_path / "o", ("paste=2",), workers=0)
    yardstick = Yardstick(str(tmp_path / "yolo.yaml"), seeds=2, device="cpu")
    found = augment_and_measure(request, yardstick)["measured"]
    assert list(found["arms"]) == ["real", "real + varied"]
    assert [arm["trained_on"] for arm in found["arms"].values()] == [5, 10]
    assert found["n"] == 1
    assert found["names"] == {"map_50": "mAP at 0.5", "map": "mAP"}
    for arm in found["arms"].values():
        assert arm["classes"].keys() == {"bar", "square"}
        assert 0 <= arm["scores"]["map"]["mean"] <= arm["scores"]["map_50"]["mean"] <= 1
        classes = [arm["classes"][name]["mean"] for name in ("bar", "square")]
        assert arm["scores"]["map_50"]["mean"] == pytest.approx(np.mean(classes), abs=1e-3)
    assert "AP at 0.5" in (tmp_path / "o/report.html").read_text()


def test_a_yardstick_that_scores_nothing_is_refused_before_anything_is_made(
    notes: str, tmp_path: Path
) -> None:
    request = Augmenting(notes, tmp_path / "o", workers=0)
    with pytest.raises(InputError, match="family 'edsr' neither classifies nor detects"):
        augment_and_measure(request, Yardstick("edsr_demo"))
    with pytest.raises(InputError, match="needs items with classes"):
        augment_and_measure(request, Yardstick("classifier_demo"))
    assert not (tmp_path / "o").exists()
