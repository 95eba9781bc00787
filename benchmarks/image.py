"""What a step of the image families costs beside a plain PyTorch loop of the same networks.

Every row has two sides, ours and a named peer's, each a function that returns the seconds of some
steps. Segments of the two are interleaved, since the speed of a shared machine drifts; the ratio
is that of the medians, above 1 when aigc is faster.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from aigc_cli.data._stream import StepSampler
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.train import build, train

ROUNDS, STEPS = 4, 5
SETTINGS = [
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "trainer.workers=0",
    "trainer.ema=null",
    "trainer.validate_every=1000000",
    "trainer.checkpoint_every=1000000",
    "trainer.preview_every=1000000",
    f"trainer.max_steps={STEPS + 1}",
]
Side = Callable[[], list[float]]


class Enough(Exception):
    """Ends a segment before its validation."""


def with_aigc(name: str, extra: list[str]) -> list[float]:
    """Seconds between the ends of consecutive steps of a real run."""
    ticks: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if event["event"] == "tick":
            ticks.append(time.perf_counter())
            if len(ticks) == STEPS:
                raise Enough

    recipe = load_recipe(name, [*SETTINGS, *extra])
    with tempfile.TemporaryDirectory() as folder, suppress(Enough):
        train(recipe, out=Path(folder) / "run", emit=watch)
    return [b - a for a, b in pairwise(ticks)]


def batches(name: str, extra: list[str]) -> DataLoader[Any]:
    """The same batches as those of `with_aigc`."""
    recipe = load_recipe(name, [*SETTINGS, *extra])
    data, _ = build(recipe)
    size = recipe.trainer.global_batch
    sampler = StepSampler(len(data.train), global_batch=size, seed=0, stop=STEPS)
    return DataLoader(data.train, batch_sampler=sampler, collate_fn=data.train.collate)


# A DCGAN step. The peer is what pytorch/examples/dcgan does, written anew: its networks at 64
# pixels, binary cross-entropy, one batch of noise for both networks.

DCGAN = ["data.train=builtin:photos:train", "data.val=builtin:photos:validation"]
DCGAN += ["trainer.global_batch=16", "model.features=none"]


def dcgan_networks(channels_last: bool) -> tuple[nn.Sequential, nn.Sequential]:
    """Generator and discriminator of the example, 3,576,704 and 2,765,568 parameters."""
    up = [nn.ConvTranspose2d(100, 512, 4, bias=False), nn.BatchNorm2d(512), nn.ReLU(True)]
    for width in (256, 128, 64):
        up += [nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False)]
        up += [nn.BatchNorm2d(width), nn.ReLU(True)]
    up += [nn.ConvTranspose2d(64, 3, 4, 2, 1, bias=False), nn.Tanh()]
    down = [nn.Conv2d(3, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, True)]
    for width in (64, 128, 256):
        down += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False)]
        down += [nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2, True)]
    down += [nn.Conv2d(512, 1, 4, bias=False), nn.Flatten(0)]
    layout = torch.channels_last if channels_last else torch.contiguous_format
    generator = nn.Sequential(*up).to(memory_format=layout)
    return generator, nn.Sequential(*down).to(memory_format=layout)


def dcgan_loop(channels_last: bool) -> list[float]:
    """Seconds between the ends of consecutive steps of the example's loop."""
    generator, discriminator = dcgan_networks(channels_last)
    adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_discriminator = torch.optim.Adam(discriminator.parameters(), **adam)
    of_generator = torch.optim.Adam(generator.parameters(), **adam)

    def loss(logits: Tensor, target: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    ends = []
    for batch in batches("dcgan_64", DCGAN):
        real = batch["image"]
        discriminator.zero_grad()
        on_real = loss(discriminator(real), 1.0)
        on_real.backward()
        fake = generator(torch.randn(len(real), 100, 1, 1))
        on_fake = loss(discriminator(fake.detach()), 0.0)
        on_fake.backward()
        of_discriminator.step()
        generator.zero_grad()
        fooled = loss(discriminator(fake), 1.0)
        fooled.backward()
        of_generator.step()
        _ = on_real.item() + on_fake.item(), fooled.item()
        ends.append(time.perf_counter())
    return [b - a for a, b in pairwise(ends)]


def dcgan(channels_last: bool) -> tuple[Side, Side]:
    """aigc's step and the example's."""
    extra = [*DCGAN, f"trainer.channels_last={str(channels_last).lower()}"]
    return lambda: with_aigc("dcgan_64", extra), lambda: dcgan_loop(channels_last)


ROWS: dict[str, tuple[Side, Side]] = {
    "DCGAN step, 64 px, batch 16, fp32; pytorch/examples": dcgan(False),
    "DCGAN step, the same, channels last": dcgan(True),
}


def compare(ours: Side, theirs: Side) -> dict[str, Any]:
    """Medians of both sides and their ratio."""
    seconds: dict[str, list[float]] = {"aigc": [], "peer": []}
    for _ in range(ROUNDS):
        seconds["aigc"] += ours()
        seconds["peer"] += theirs()
    aigc, peer = (statistics.median(values) for values in seconds.values())
    return {
        "aigc_s": round(aigc, 4),
        "peer_s": round(peer, 4),
        "ratio": round(peer / aigc, 3),
        "steps": len(seconds["aigc"]),
    }


def main() -> dict[str, Any]:
    rows = {name: compare(*sides) for name, sides in ROWS.items()}
    return {"benchmark": "a step of the image families", **rows}
