"""What `aigc train` costs beside a plain PyTorch loop of the same network, data and optimizer.

EDSR-baseline x2, batches of 16 patches of 48 small pixels, fp32 on the CPU. Segments of the two are
interleaved; the ratio is that of the median seconds per step, above 1 when aigc is faster.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from aigc_cli.data._stream import StepSampler
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.train import build, train

ROUNDS, STEPS = 4, 5
SETTINGS = [
    "data.train=builtin:photos:train",
    "data.val=builtin:photos:validation",
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.validate_every=1000000",
    "trainer.checkpoint_every=1000000",
    "trainer.preview_every=1000000",
    f"trainer.max_steps={STEPS + 1}",
]


class Enough(Exception):
    """Ends a segment before its validation."""


def with_aigc(extra: list[str]) -> list[float]:
    """Seconds between the ends of consecutive steps of a real run."""
    ticks: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "tick":
            ticks.append(time.perf_counter())
            if len(ticks) == STEPS:
                raise Enough

    recipe = load_recipe("edsr_baseline_x2", [*SETTINGS, *extra])
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        train(recipe, out=Path(folder) / "run", emit=watch)
    return [b - a for a, b in pairwise(ticks)]


def with_plain_loop(extra: list[str]) -> list[float]:
    """The same network and batches in the loop that one writes by hand."""
    recipe = load_recipe("edsr_baseline_x2", [*SETTINGS, *extra])
    data, model = build(recipe)
    network = model.net
    if recipe.trainer.channels_last:
        network.to(memory_format=torch.channels_last)
    sampler = StepSampler(len(data.train), global_batch=16, seed=0, stop=STEPS)
    loader = DataLoader(data.train, batch_sampler=sampler, collate_fn=data.train.collate)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    ends = []
    for batch in loader:
        loss = 127.5 * (network(batch["low"]) - batch["high"]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
        ends.append(time.perf_counter())
    return [b - a for a, b in pairwise(ends)]


def main() -> dict[str, Any]:
    ours: dict[str, list[float]] = {"plain": [], "channels_last": []}
    theirs: dict[str, list[float]] = {"plain": [], "channels_last": []}
    for _ in range(ROUNDS):
        for name, extra in (("plain", []), ("channels_last", ["trainer.channels_last=true"])):
            ours[name] += with_aigc(extra)
            theirs[name] += with_plain_loop(extra)
    rows = {
        name: {
            "aigc_s": round(statistics.median(ours[name]), 3),
            "plain_loop_s": round(statistics.median(theirs[name]), 3),
            "ratio": round(statistics.median(theirs[name]) / statistics.median(ours[name]), 3),
            "steps": len(ours[name]),
        }
        for name in ours
    }
    return {"benchmark": "training step, EDSR-baseline x2, LR 48, batch 16, fp32", **rows}
