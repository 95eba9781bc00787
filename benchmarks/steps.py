"""What a training step of `aigc train` costs beside a plain loop of the same network.

    OMP_NUM_THREADS=1 python -m benchmarks.steps [ROW ...]

One side is a whole run as a user has it: Lightning, moving average, guard against NaN, log, board,
data. The other is the loop that one writes by hand: our own network, loss and batches;
zero_grad(set_to_none=True), forward, backward, clipping, a step of torch's fused Adam, and nothing
else. Both take turns of some steps in one process. A ratio is the plain loop's CPU time over ours
in one round, so 1 says that all the rest is free; given are median and range over the rounds.

The networks are ours on both sides: those of others are the peers of benchmarks/image.py and
benchmarks/text.py.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from aigc_cli.data._stream import StepSampler
from aigc_cli.models._base import Batch, GenerativeModule, Run
from aigc_cli.recipe.load import Recipe, load_recipe
from aigc_cli.run.build import build
from aigc_cli.run.devices import choose_precision
from aigc_cli.run.train import train
from benchmarks._sides import Enough
from benchmarks.cyclegan import CYCLEGAN

ROUNDS = 7
NEVER = [f"trainer.{name}_every=1000000" for name in ("validate", "checkpoint", "preview")]
ALIKE = [*NEVER, "trainer.device=cpu", "trainer.workers=0", "trainer.max_epochs=null"]
PHOTOS = ["data.train=builtin:photos:train", "data.val=builtin:photos:validation"]
NANOGPT = ["data.train=builtin:shakespeare:train", "data.val=builtin:shakespeare:validation"]
EDSR = [*PHOTOS, "trainer.precision=bf16", "trainer.channels_last=true", "trainer.ema=0.999"]

ROWS: dict[str, tuple[str, int, list[str]]] = {
    "lm_4x128": ("lm_shakespeare_classic", 20, NANOGPT),
    "lm_6x384": (
        "lm_shakespeare_gpu",
        2,
        [*NANOGPT, "trainer.compile=false", "trainer.global_batch=4", "trainer.precision=bf16"],
    ),
    "edsr_baseline": ("edsr_baseline_x2", 2, [*EDSR, "trainer.global_batch=4"]),
    "edsr_small": ("edsr_small_x2", 3, [*EDSR, "trainer.clip_norm=1"]),
    "vae": ("vae_mnist_mlp", 40, [*PHOTOS, "data.image_size=28", "data.resize=stretch"]),
    "dcgan": ("dcgan_64", 3, [*PHOTOS, "trainer.global_batch=16", "model.features=none"]),
    "cyclegan": ("cyclegan_256", 2, CYCLEGAN),
}
"""Recipe, steps of a turn, settings."""


def plain_loop(recipe: Recipe) -> Iterator[None]:
    """Steps, one each time it is asked for; the first phases ask gradients of their own weights."""
    settings = recipe.trainer.model_copy(update={"ema": None})
    data, model = build(recipe)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    assert settings.max_steps is not None
    model.prepare(Run(settings, recipe.seed, settings.max_steps))
    found = model.configure_optimizers()
    optimizers = [plain(o) for o in (found if isinstance(found, list) else [found])]
    sampler = StepSampler(
        len(data.train),
        global_batch=settings.global_batch,
        seed=recipe.seed,
        stop=settings.max_steps,
        lengths=getattr(data.train, "lengths", None),
    )
    collate = getattr(data.train, "collate", None)
    model.train()
    for batch in DataLoader(data.train, batch_sampler=sampler, collate_fn=collate):
        step(model, optimizers, batch, bf16=choose_precision(settings) == "bf16")
        yield


def plain(optimizer: Any) -> torch.optim.Optimizer:
    """The fused Adam or AdamW of torch for the same weights."""
    keys = ("params", "lr", "betas", "eps", "weight_decay")
    groups = [{key: group[key] for key in keys} for group in optimizer.param_groups]
    made: torch.optim.Optimizer = type(optimizer)(groups, fused=True)
    return made


def step(
    model: GenerativeModule, optimizers: list[torch.optim.Optimizer], batch: Batch, *, bf16: bool
) -> None:
    run = model.run
    assert run is not None
    model.before_step(batch)
    for number, phase in enumerate(model.phases()):
        model.start_phase(number)  # what its noise is drawn by
        if (weight := model.weight(batch)) is not None:
            model.mean_weight = weight
        optimizer = optimizers[phase.optimizer]
        optimizer.zero_grad(set_to_none=True)
        own = [p for group in optimizer.param_groups for p in group["params"]]
        if len(optimizers) > 1:
            model.requires_grad_(False)
            for p in own:
                p.requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            loss = phase.loss(batch)["loss"]
        loss.backward()
        if run.trainer.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(own, run.trainer.clip_norm)
        optimizer.step()
        _ = loss.item()
    model.step += 1
    model.after_step(batch)


def compare(name: str, turn: int, settings: list[str]) -> dict[str, Any]:
    """CPU milliseconds of a step of both sides, and the ratios of the rounds."""
    length = f"trainer.max_steps={turn * (ROUNDS + 2)}"
    recipe = load_recipe(name, [*ALIKE, *settings, length])
    plain = plain_loop(load_recipe(name, [*ALIKE, *settings, length]))
    ours: list[float] = []
    theirs: list[float] = []
    begun, ticks = time.process_time(), 0

    def watch(event: dict[str, Any]) -> None:
        nonlocal begun, ticks
        if event["event"] != "tick":
            return
        ticks += 1
        if ticks % turn:
            return
        now = time.process_time()
        ours.append((now - begun) / turn)
        for _ in range(turn):
            next(plain)
        theirs.append((time.process_time() - now) / turn)
        if len(ours) == ROUNDS + 1:
            raise Enough
        begun = time.process_time()

    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        train(recipe, out=Path(folder) / "run", emit=watch)
    ratios = [b / a for a, b in zip(ours[1:], theirs[1:], strict=True)]  # the first warms up
    return {
        "aigc_ms": round(1000 * statistics.median(ours[1:]), 2),
        "plain_ms": round(1000 * statistics.median(theirs[1:]), 2),
        "ratio": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "steps": turn * ROUNDS,
    }


def main(names: list[str]) -> dict[str, Any]:
    found = {name: compare(*ROWS[name]) for name in names or ROWS}
    return {
        "benchmark": "a training step beside a plain loop of the same network, CPU time",
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        **found,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:]), indent=1))
