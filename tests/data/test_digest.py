"""Data that changed is other data, and data that only lies elsewhere is the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from aigc_cli.data._data import data_digest
from aigc_cli.registry import data_kinds, load_data_kind


def digest(kind: str, config: dict[str, Any]) -> str:
    module = load_data_kind(kind)
    checked = TypeAdapter(module.Config).validate_json(json.dumps(config))
    return data_digest(module.Data(checked, seed=0))


def change_one(folder: Path) -> None:
    """In the middle: one pixel of an image, one letter or number of a line, one file of music, one
    bit of a recording.
    """
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = files[len(files) // 2]
    status = file.stat()
    if file.suffix == ".png":
        pixels = np.array(Image.open(file))
        pixels[5, 7] ^= 1
        Image.fromarray(pixels).save(file)
    elif file.suffix == ".mid":
        shutil.copy(files[0], file)
    elif file.suffix == ".wav":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    else:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        middle = lines[len(lines) // 2]
        end = middle.rstrip()[-1]
        other = str((int(end) + 1) % 10) if end.isdecimal() else end
        changed = middle.replace("the", "tho", 1).rstrip()[:-1] + other + "\n"
        lines[len(lines) // 2] = changed
        assert middle not in lines, middle
        file.write_text("".join(lines), encoding="utf-8")
        assert file.stat().st_size == status.st_size


@pytest.mark.parametrize("kind", sorted(data_kinds()))
def test_one_changed_item_in_the_middle_is_seen(tmp_path: Path, kind: str) -> None:
    config = load_data_kind(kind).example(tmp_path / "made")
    before = digest(kind, config)
    shutil.copytree(tmp_path / "made", tmp_path / "other place")
    copied = json.loads(json.dumps(config).replace(f"{tmp_path}/made", f"{tmp_path}/other place"))
    assert digest(kind, copied) == before
    change_one(tmp_path / "other place")
    assert digest(kind, copied) != before


def test_an_image_of_another_class_is_seen(tmp_path: Path) -> None:
    for number, name in enumerate(["a/1.png", "a/2.png", "b/3.png", "b/4.png"]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / name)
    place = str(tmp_path)
    config = {"kind": "images", "train": place, "val": place, "image_size": 8, "cache": "off"}
    before = digest("images", config)
    (tmp_path / "a/2.png").rename(tmp_path / "b/2.png")
    assert digest("images", config) != before
