"""Boxes in COCO, Pascal VOC and YOLO: read alike, and checked against their images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigc_cli.data._box_parts import open_boxes
from aigc_cli.data.boxes import Config, Data, example, inside
from aigc_cli.errors import DataError
from aigc_cli.media.image import Raster, write_image

BOXES = {"a.png": [(2, 3, 12, 9, "cat"), (20, 10, 40, 30, "dog")], "b.png": [(0, 0, 8, 8, "dog")]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images of 40 x 30."""
    (tmp_path / "images").mkdir()
    for number, name in enumerate(BOXES):
        write_image(tmp_path / "images" / name, Raster(np.full((30, 40, 3), 50 * number, np.uint8)))
    return tmp_path


def as_coco(folder: Path, boxes: Any = None) -> str:
    names, classes = [*BOXES], {"cat": 7, "dog": 3}
    objects = [
        {"id": i, "image_id": image, "category_id": classes[name], "bbox": [x, y, r - x, b - y]}
        for image, file in enumerate(names)
        for i, (x, y, r, b, name) in enumerate((boxes or BOXES)[file])
    ]
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    categories = [{"id": number, "name": name} for name, number in classes.items()]
    path = folder / "notes.json"
    whole = {"images": images, "annotations": objects, "categories": categories}
    path.write_text(json.dumps(whole))
    return str(path)


def as_voc(folder: Path) -> str:
    (folder / "annotations").mkdir()
    for file, boxes in BOXES.items():
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{r}</xmax>"
            f"<ymax>{b}</ymax></bndbox></object>"
            for x, y, r, b, name in boxes
        )
        text = f"<annotation><filename>{file}</filename>{objects}</annotation>"
        (folder / "annotations" / file).with_suffix(".xml").write_text(text)
    return str(folder)


def as_yolo(folder: Path) -> str:
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text("names: [cat, dog]\n")
    for file, boxes in BOXES.items():
        lines = [
            f"{('cat', 'dog').index(name)} {(x + r) / 80} {(y + b) / 60} "
            f"{(r - x) / 40} {(b - y) / 30}"
            for x, y, r, b, name in boxes
        ]
        (folder / "labels" / file).with_suffix(".txt").write_text("\n".join(lines))
    return str(folder)


@pytest.mark.parametrize("write", [as_coco, as_voc, as_yolo])
def test_all_formats_say_the_same(folder: Path, write: Any) -> None:
    part = open_boxes(write(folder))
    assert sorted(part.counts.items()) == [("cat", 1), ("dog", 2)]
    assert part.faults == []
    assert [part.name(i) for i in range(2)] == [*BOXES]
    for found, real in zip(part.objects, BOXES.values(), strict=True):
        np.testing.assert_allclose(found.boxes, [box[:4] for box in real])
        assert found.names == tuple(box[4] for box in real)


def test_a_list_of_voc_names_its_images(folder: Path) -> None:
    as_voc(folder)
    (folder / "annotations").rename(folder / "Annotations")
    (folder / "images").rename(folder / "JPEGImages")
    listed = folder / "ImageSets/Main/val.txt"
    listed.parent.mkdir(parents=True)
    listed.write_text("b\nmissing\n")
    part = open_boxes(str(listed))
    assert [part.name(i) for i in range(len(part))] == ["b.png"]
    assert "names missing" in part.faults[0].reason


def test_each_fault_is_counted_and_named(folder: Path) -> None:
    wrong = {
        "a.png": [(5, 5, 5, 9, "cat"), (50, 5, 60, 9, "cat"), (30, 5, 45, 9, "cat")],
        "b.png": [(0, 0, 8, 8, "dog"), (0, 0, 40.8, 30.9, "dog")],
    }
    path = Path(as_coco(folder, wrong))
    whole = json.loads(path.read_text())
    whole["images"].append({"id": 9, "file_name": "gone.png"})
    whole["annotations"] += [
        {"id": 77, "image_id": 5, "category_id": 3, "bbox": [0, 0, 1, 1]},
        {"id": 78, "image_id": 0, "category_id": 4, "bbox": [0, 0, 1, 1]},
    ]
    path.write_text(json.dumps(whole))
    with pytest.raises(DataError) as error:
        Data(Config(train=str(path), cache="off"))
    said = str(error.value)
    for text in (
        "images that are not there: 1", "boxes without width or height: 1",
        "boxes outside of their image: 1", "boxes that reach beyond their image: 1",
        "names image 'gone.png', which is not there", "5, 5 to 5, 9",
        "annotation 77  names image 5", "annotation 78  names class 4",
    ):  # fmt: skip
        assert text in said
    assert "on_error=skip" in str(error.value.hint)
    data = Data(Config(train=str(path), cache="off", on_error="skip"))  # a.png validates
    np.testing.assert_allclose(data.report["data.val"].objects[0].boxes, np.zeros((0, 4)))
    np.testing.assert_allclose(data.report["data.train"].objects[0].boxes[1], [0, 0, 40, 30])
    assert data.spec.labels == ("dog",)


def test_a_class_that_was_not_trained_is_a_fault(folder: Path) -> None:
    path = as_coco(folder)
    data = Data(Config(train=path, cache="off", on_error="skip"))  # b.png trains: dogs only
    reasons = [fault.reason for fault in data.report["data.val"].faults]
    assert reasons == ["is of none of the classes dog"]
    assert data.report["data.val"].objects[0].names == ("dog",)


@pytest.mark.parametrize(("text", "said"), [
    ("{}", "is no COCO file"), ("[" * 100_000, "is no COCO file"), ("{", "is no COCO file"),
])  # fmt: skip
def test_what_is_no_coco_file_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=said):
        open_boxes(str(tmp_path / "x.json"))


def test_names_that_leave_the_folder_are_not_followed(folder: Path) -> None:
    path = Path(as_coco(folder))
    whole = json.loads(path.read_text())
    whole["images"][0]["file_name"] = "../images/a.png"
    (folder / "inner").mkdir()
    (folder / "inner/notes.json").write_text(json.dumps(whole))
    (folder / "images").rename(folder / "inner/images")
    part = open_boxes(str(folder / "inner"))
    assert [fault.reason for fault in part.faults] == [
        "names image '../images/a.png', which is not there"
    ]


def test_an_image_is_fitted_in_and_its_boxes_with_it(folder: Path) -> None:
    data = Data(Config(train=as_coco(folder), width=80, height=96, cache="off", on_error="skip"))
    item = data.val[0]
    assert item["image"].shape == (3, 96, 80)
    assert item["boxes"].tolist() == [[40, 20, 80, 60]]
    assert float(item["image"][:, 60:].abs().max()) < 0.01  # beyond the image
    assert data.spec.mean_boxes == pytest.approx((0, 0, 0.2, 16 / 96), abs=1e-6)


def test_varied_images_keep_boxes_on_their_objects(tmp_path: Path) -> None:
    """Objects of the example are brighter in green than all around them."""
    config = Config.model_validate(
        {**example(tmp_path), "flip_down": True, "zoom": 0.4, "light": 0.0}
    )
    data = Data(config)
    moved = 0
    for seed in range(20):
        item = data.train[(seed % 5, seed)]
        for left, top, right, bottom in item["boxes"].round().int().tolist():
            green = item["image"][1, top + 1 : bottom - 1, left + 1 : right - 1]
            assert green.numel() == 0 or float(green.min()) > 0.4
        moved += len(item["boxes"])
    assert moved > 40
    again = data.train[(3, 8)]
    assert all((again[key] == value).all() for key, value in data.train[(3, 8)].items())


def test_what_is_hardly_seen_is_no_object() -> None:
    boxes = np.array([[-8.0, 0, 2, 10], [-5, 0, 5, 10], [3, 3, 4, 9]])
    cut, kept = inside(boxes, 20, 20)
    assert kept == [1]
    assert cut.tolist() == [[0, 0, 5, 10]]
