"""Small real images in folders of their own, and a cache that ends with the test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from painted import pixels
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch) -> Path:
    """Where `cache: auto` leads in this test."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("AIGC_CACHE", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path) -> Callable[..., Path]:
    """`photos(5)` is a folder of 5 different PNG of 40 x 32 pixels, `photos(5, "name")` another."""

    def make(count: int, folder: str = "photos", *, size: tuple[int, int] = (32, 40)) -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            seed = sum(map(ord, folder)) * 100 + i
            Image.fromarray(pixels(*size, seed=seed)).save(path / f"p{i:02d}.png")
        return path

    return make
