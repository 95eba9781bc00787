"""Tiny class folders, and two ways to augment them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from aigc_cli.cli import invoke
from aigc_cli.run.augment import augment
from aigc_cli.run.augmenting import Augmenting

Aigc = Callable[..., tuple[int, str, str]]


class Killed(BaseException):
    """As a signal would end the call."""


def paint(folder: Path, sizes: dict[str, int], *, side: int = 8, seed: int = 0) -> Path:
    """Gray noise, so that no two images are equal: `sizes` of each class."""
    rng = np.random.default_rng(seed)
    for label, count in sizes.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (side, side), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{i:03d}.png")
    return folder


def rows(folder: Path, name: str = "augment.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by name; the record says where it lies, which differs."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != "augment.json")
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def killed_after(count: int, request: Augmenting) -> None:
    """A call that ends when `count` items are done."""

    def told(done: int, of: int) -> None:
        if done == count:
            raise Killed

    with pytest.raises(Killed):
        augment(request, told=told)


@pytest.fixture
def aigc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Aigc:
    """Call the command line in this process, in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = invoke([str(word) for word in words])
        return code, *capfd.readouterr()

    return call
