"""The settings that `aigc recipe new` takes from the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aigc_cli.data import images, super_resolution
from aigc_cli.errors import DataError


def pictures(folder: Path, *sizes: tuple[int, int], mode: str = "RGB") -> str:
    folder.mkdir(parents=True)
    for number, (width, height) in enumerate(sizes):
        shape = (height, width) if mode == "L" else (height, width, 3)
        pixels = np.full(shape, 9 * number, np.uint8)
        if mode == "RGB":
            pixels[..., 0] += 1  # red, as equal channels would be gray
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize(
    ("side", "scale", "patch"),
    [(400, 2, 48), (96, 2, 48), (95, 2, 40), (78, 2, 32), (78, 4, 16), (20, 2, 8), (10, 2, 8)],
)
def test_the_patch_fits_the_smallest_picture(
    tmp_path: Path, side: int, scale: int, patch: int
) -> None:
    train = pictures(tmp_path / "p", (500, 500), (side, 300 + side), (600, 500))
    config = super_resolution.Config(train=train, val=train, scale=scale, cache="off")
    assert super_resolution.suggest(config)["patch_size"][0] == patch


def test_gray_pictures_ask_for_one_channel(tmp_path: Path) -> None:
    gray = pictures(tmp_path / "gray", (40, 40), (40, 40), mode="L")
    config = images.Config(train=gray, val=gray, cache="off")
    assert images.suggest(config)["channels"] == (1, "All images are gray.")
    color = pictures(tmp_path / "color", (40, 40))
    config = images.Config(train=(gray, color), val=gray, cache="off")
    assert "channels" not in images.suggest(config)


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([(28, 28)] * 3, 28),
        ([(128, 128)] * 3, 128),
        ([(256, 256)] * 3, 64),
        ([(30, 50), (41, 90), (200, 43)], 40),
        ([(3, 3), (3, 4)], 4),
    ],
)
def test_pictures_of_one_small_size_keep_it(
    tmp_path: Path, sizes: list[tuple[int, int]], size: int
) -> None:
    train = pictures(tmp_path / "p", *sizes)
    config = images.Config(train=train, val=train, cache="off")
    assert images.suggest(config)["image_size"][0] == size


def test_a_bad_picture_stops(tmp_path: Path) -> None:
    train = pictures(tmp_path / "p", (50, 50), (50, 50))
    (tmp_path / "p" / "bad.png").write_bytes(b"no image")
    config = images.Config(train=train, val=train, cache="off")
    with pytest.raises(DataError, match="1 of 3 images cannot be used"):
        images.suggest(config)
