"""CycleGAN as a plain PyTorch loop in the layout of the paper's code: `torch.nn.InstanceNorm2d`, a
pass for each translation and identity, a list as image pool; the peer in benchmarks/image.py.

Generators of 6 blocks and 64 features, 64 pixels, batches of 1.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor, nn

from aigc_cli.nn.patchgan import PatchGAN
from benchmarks._sides import batches, seconds_between

CYCLEGAN = [
    "data.train=builtin:photos:train",
    "data.train_b=builtin:photos:train",
    "data.val=builtin:photos:validation",
    "data.val_b=builtin:photos:validation",
    "data.image_size=64",
    "data.load_size=72",
    "model.num_blocks=6",
    "model.features=none",
    "trainer.max_epochs=null",
]


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


def cyclegan_loop(extra: list[str]) -> list[float]:
    """Seconds of consecutive steps."""
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

    return seconds_between(step(b["a"], b["b"]) for b in batches("cyclegan_256", extra))
