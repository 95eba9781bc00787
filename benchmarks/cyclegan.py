"""What a training step of CycleGAN costs beside a plain PyTorch loop in the layout of the paper's
code: `torch.nn.InstanceNorm2d`, a pass for each translation and identity, a list as image pool.

Generators of 6 blocks and 64 features, 64 pixels, batches of 1, fp32 on the CPU. Segments are
interleaved; the ratio is that of the median seconds per step, above 1 when aigc is faster.
"""

from __future__ import annotations

import itertools
import random
import statistics
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aigc_cli.data._stream import StepSampler
from aigc_cli.nn.patchgan import PatchGAN
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.train import build, train

ROUNDS, STEPS = 4, 5
SETTINGS = [
    "data.train=builtin:photos:train",
    "data.train_b=builtin:photos:train",
    "data.val=builtin:photos:validation",
    "data.val_b=builtin:photos:validation",
    "data.image_size=64",
    "data.load_size=72",
    "model.num_blocks=6",
    "model.features=none",
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "trainer.workers=0",
    "trainer.log_every=1",
    "trainer.validate_every=1000000",
    "trainer.checkpoint_every=1000000",
    "trainer.preview_every=1000000",
    f"trainer.max_steps={STEPS + 1}",
    "trainer.max_epochs=null",
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

    recipe = load_recipe("cyclegan_256", [*SETTINGS, *extra])
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        train(recipe, out=Path(folder) / "run", emit=watch)
    return [b - a for a, b in pairwise(ticks)]


class Block(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3),
            nn.InstanceNorm2d(features),
            nn.ReLU(True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(features, features, 3),
            nn.InstanceNorm2d(features),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def plain_generator() -> nn.Sequential:
    """c7s1-64, d128, d256, R256 x 6, u128, u64, c7s1-3 (appendix 7.2 of the paper)."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, 64, 7)]
    layers += [nn.InstanceNorm2d(64), nn.ReLU(True)]
    for D in (64, 128):
        layers += [nn.Conv2d(D, 2 * D, 3, 2, 1), nn.InstanceNorm2d(2 * D), nn.ReLU(True)]
    layers += [Block(256) for _ in range(6)]
    for D in (256, 128):
        layers += [nn.ConvTranspose2d(D, D // 2, 3, 2, 1, 1), nn.InstanceNorm2d(D // 2)]
        layers += [nn.ReLU(True)]
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(64, 3, 7), nn.Tanh())


class ListPool:
    def __init__(self) -> None:
        self.images: list[Tensor] = []

    def exchange(self, image: Tensor) -> Tensor:
        if len(self.images) < 50:
            self.images.append(image)
            return image
        if random.random() < 0.5:
            return image
        number = random.randrange(50)
        old, self.images[number] = self.images[number], image
        return old


def with_plain_loop(extra: list[str]) -> list[float]:
    """The same networks and batches in the loop that one writes by hand."""
    data, _ = build(load_recipe("cyclegan_256", [*SETTINGS, *extra]))
    ab, ba = plain_generator(), plain_generator()
    judge_a, judge_b = PatchGAN(3, 64, 2), PatchGAN(3, 64, 2)
    pool_a, pool_b = ListPool(), ListPool()
    makers = torch.optim.Adam([*ab.parameters(), *ba.parameters()], 2e-4, (0.5, 0.999))
    judges = [*judge_a.parameters(), *judge_b.parameters()]
    critics = torch.optim.Adam(judges, 2e-4, (0.5, 0.999))
    l1, squared = nn.L1Loss(), nn.MSELoss()

    def says(judge: PatchGAN, image: Tensor, real: bool) -> Tensor:
        logits = judge(image)
        return squared(logits, torch.full_like(logits, float(real)))

    def step(a: Tensor, b: Tensor) -> None:
        for parameter in judges:
            parameter.requires_grad_(False)
        fake_b, fake_a = ab(a), ba(b)
        cycles = l1(ba(fake_b), a) + l1(ab(fake_a), b)
        same = l1(ba(a), a) + l1(ab(b), b)
        fooled = says(judge_b, fake_b, True) + says(judge_a, fake_a, True)
        makers.zero_grad()
        (fooled + 10 * cycles + 5 * same).backward()
        makers.step()
        for parameter in judges:
            parameter.requires_grad_(True)
        critics.zero_grad()
        for judge, real, fake, pool in (
            (judge_a, a, fake_a, pool_a),
            (judge_b, b, fake_b, pool_b),
        ):
            shown = pool.exchange(fake.detach())
            ((says(judge, real, True) + says(judge, shown, False)) / 2).backward()
        critics.step()

    sampler = StepSampler(len(data.train), global_batch=1, seed=0, stop=STEPS)
    loader = DataLoader(data.train, batch_sampler=sampler, collate_fn=data.train.collate)
    ends = []
    for batch in itertools.islice(loader, STEPS):
        step(batch["a"], batch["b"])
        ends.append(time.perf_counter())
    return [b - a for a, b in pairwise(ends)]


def main() -> dict[str, Any]:
    ours: dict[str, list[float]] = {"plain": [], "channels_last": []}
    theirs: list[float] = []
    for _ in range(ROUNDS):
        theirs += with_plain_loop([])
        ours["plain"] += with_aigc([])
        ours["channels_last"] += with_aigc(["trainer.channels_last=true"])
    loop = statistics.median(theirs)
    rows = {
        name: {
            "aigc_s": round(statistics.median(times), 3),
            "plain_loop_s": round(loop, 3),
            "ratio": round(loop / statistics.median(times), 3),
            "steps": len(times),
        }
        for name, times in ours.items()
    }
    return {"benchmark": "training step, CycleGAN, 6 blocks, 64 px, batch 1, fp32", **rows}
