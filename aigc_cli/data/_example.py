"""Tiny real files for `example(folder)`, which every kind of data has: it writes a few files of its
kind into a folder and returns a config that reads them. Tests and `aigc model check` train on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SUBJECTS = ("cat", "wolf", "owl", "ox", "fox", "hen", "bat", "dog")
CHAT_LETTERS = {"kind": "characters", "specials": "chat"}
"""A tokenizer that a few texts suffice for."""


def paint(folder: Path, count: int, *, size: int = 40, seed: int = 0) -> None:
    """Smooth color images, `size` high and a little wider each than the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        random = np.random.default_rng([seed, number])
        small = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        image = small.resize((size + number, size), Image.Resampling.BICUBIC)
        image.save(folder / f"image {number:02d}.png")


def sentences(count: int = 30) -> list[str]:
    """Short English sentences, all different, of four or five words after `the SUBJECT`."""
    verbs = ("sat on", "saw", "jumped over")
    pairs = permutations(SUBJECTS, 2)
    return [f"the {a} {verbs[n % 3]} the {b} ." for n, (a, b) in zip(range(count), pairs)]  # noqa: B905


def split_in_two(sentence: str) -> tuple[str, str]:
    """Its subject, and what is said of it."""
    the, subject, rest = sentence.split(" ", 2)
    return f"{the} {subject}", rest


def write_lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_objects(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON object a line."""
    write_lines(path, map(json.dumps, rows))
