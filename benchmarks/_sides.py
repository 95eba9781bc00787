"""The two sides of a training benchmark: a real run of aigc, and a peer on the same batches."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from aigc_cli.data._stream import StepSampler
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.build import build
from aigc_cli.run.train import train

STEPS = 5
ALIKE = [
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "trainer.workers=0",
    "trainer.log_every=10",
    "trainer.ema=null",
    "trainer.validate_every=1000000",
    "trainer.checkpoint_every=1000000",
    "trainer.preview_every=1000000",
]
Side = Callable[[], list[float]]
"""Seconds of some consecutive steps."""


class Skip(Exception):
    """A benchmark cannot run here; the sentence says what it needs."""


class Enough(Exception):
    """Ends a segment before its validation."""


def with_aigc(name: str, extra: list[str], steps: int = STEPS) -> list[float]:
    """Of a real run of a recipe."""
    ticks: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "tick":
            ticks.append(time.perf_counter())
            if len(ticks) == steps:
                raise Enough

    recipe = load_recipe(name, [*ALIKE, f"trainer.max_steps={steps + 1}", *extra])
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        train(recipe, out=Path(folder) / "run", emit=watch)
    return [b - a for a, b in pairwise(ticks)]


def batches(name: str, extra: list[str], steps: int = STEPS) -> Iterator[Any]:
    """Those that `with_aigc` trains on."""
    recipe = load_recipe(name, [*ALIKE, f"trainer.max_steps={steps + 1}", *extra])
    data, _ = build(recipe)
    size = recipe.trainer.global_batch
    sampler = StepSampler(len(data.train), global_batch=size, seed=0, stop=steps)
    yield from DataLoader(data.train, batch_sampler=sampler, collate_fn=data.train.collate)


def seconds_between(steps: Iterable[object]) -> list[float]:
    """Of a peer whose steps are taken as they are asked for."""
    ends = [time.perf_counter() for _ in steps]
    return [b - a for a, b in pairwise(ends)]
