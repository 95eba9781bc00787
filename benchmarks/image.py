"""What a step of the image families costs beside a plain PyTorch loop of the same networks.

    python -m benchmarks.image

Every row has two sides, ours and a named peer's, each a function that returns the seconds of some
steps: the same networks, batches and precision (fp32 on the CPU, but
in the rows that say bf16). Segments of the two are
interleaved, since the speed of a shared machine drifts; the ratio is that of the medians, above 1
when aigc is faster.
"""

from __future__ import annotations

import json
import statistics
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.norm import group_norm
from aigc_cli.recipe.load import load_recipe
from aigc_cli.run.build import build
from benchmarks._sides import Side, batches, seconds_between, with_aigc
from benchmarks.cyclegan import CYCLEGAN, cyclegan_loop

ROUNDS = 4
PHOTOS = ["data.train=builtin:photos:train", "data.val=builtin:photos:validation"]

# EDSR-baseline. The peer is the loop that one writes by hand.


def edsr_loop(extra: list[str]) -> list[float]:
    """Seconds of consecutive steps of L1, in units of 8-bit levels."""
    network = build(load_recipe("edsr_baseline_x2", [*extra, "trainer.max_steps=1"]))[1].net
    if "trainer.channels_last=true" in extra:
        network.to(memory_format=torch.channels_last)
    adam = torch.optim.Adam(network.parameters(), 1e-4)

    def step(low: Tensor, high: Tensor) -> None:
        loss = 127.5 * (network(low) - high).abs().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        _ = loss.item()

    return seconds_between(step(b["low"], b["high"]) for b in batches("edsr_baseline_x2", extra))


# DCGAN. The peer is what pytorch/examples/dcgan does, written anew: its networks at 64 pixels,
# binary cross-entropy, one batch of noise for both networks.

DCGAN = [*PHOTOS, "trainer.global_batch=16", "model.features=none"]


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


def dcgan_loop(extra: list[str]) -> list[float]:
    """Seconds of consecutive steps of the example's loop."""
    generator, discriminator = dcgan_networks("trainer.channels_last=true" in extra)
    adam = {"lr": 2e-4, "betas": (0.5, 0.999)}
    of_discriminator = torch.optim.Adam(discriminator.parameters(), **adam)
    of_generator = torch.optim.Adam(generator.parameters(), **adam)

    def loss(logits: Tensor, target: float) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))

    def step(real: Tensor) -> None:
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

    return seconds_between(step(batch["image"]) for batch in batches("dcgan_64", extra))


# VAE. The peer is what pytorch/examples/vae does, written anew with the widths of the recipe.

VAE = [*PHOTOS, "data.image_size=28", "data.resize=stretch", "trainer.max_epochs=null"]


class PlainVAE(nn.Module):
    """784-400-40-400-784."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(784, 400)
        self.mu, self.logvar = nn.Linear(400, 40), nn.Linear(400, 40)
        self.back, self.out = nn.Linear(40, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.hidden(x).relu()
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        return self.out(self.back(z).relu()), mu, logvar


def vae_loop(extra: list[str], steps: int) -> list[float]:
    """Seconds of consecutive steps of the example's loop."""
    model = PlainVAE()
    adam = torch.optim.Adam(model.parameters(), 1e-4)

    def step(images: Tensor) -> None:
        x = ((images + 1) / 2).bernoulli().flatten(1)
        logits, mu, logvar = model(x)
        kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum()
        loss = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl
        adam.zero_grad()
        loss.backward()
        adam.step()
        _ = loss.item()

    return seconds_between(step(batch["image"]) for batch in batches("vae_mnist_mlp", extra, steps))


# Normalizations of bf16 images whose channels are last. The peer is torch.nn.functional.


def norm_steps(norm: Any, shape: tuple[int, ...], groups: int) -> list[float]:
    """Seconds of a normalization and its gradient."""
    layout = {"dtype": torch.bfloat16, "memory_format": torch.channels_last}
    x, upstream = (torch.randn(shape).to(**layout) for _ in range(2))
    return seconds_between(norm(x.requires_grad_(), groups).backward(upstream) for _ in range(40))


def norm_row(shape: tuple[int, ...], groups: int) -> tuple[Side, Side]:
    return (
        lambda: norm_steps(group_norm, shape, groups),
        lambda: norm_steps(F.group_norm, shape, groups),
    )


def rows(recipe: str, settings: list[str], peer: Any, text: str) -> dict[str, tuple[Side, Side]]:
    """Plain and channels last."""
    last = [*settings, "trainer.channels_last=true"]
    return {
        text: (lambda: with_aigc(recipe, settings), lambda: peer(settings)),
        f"{text}, channels last": (lambda: with_aigc(recipe, last), lambda: peer(last)),
    }


ROWS: dict[str, tuple[Side, Side]] = {
    **rows("edsr_baseline_x2", PHOTOS, edsr_loop, "EDSR-baseline x2, LR 48, batch 16; plain loop"),
    **rows("dcgan_64", DCGAN, dcgan_loop, "DCGAN, 64 px, batch 16; loop of pytorch/examples"),
    **rows("cyclegan_256", CYCLEGAN, cyclegan_loop, "CycleGAN, 6 blocks, 64 px; plain loop"),
    "VAE, 784-400-40, batch 100; loop of pytorch/examples": (
        lambda: with_aigc("vae_mnist_mlp", VAE, steps=100),
        lambda: vae_loop(VAE, 100),
    ),
    "instance norm of 4 x 128 x 16 x 16, bf16, channels last; torch": norm_row(
        (4, 128, 16, 16), 128
    ),
    "group norm of 64 x 64 x 28 x 28, bf16, channels last; torch": norm_row((64, 64, 28, 28), 32),
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
    found = {name: compare(*sides) for name, sides in ROWS.items()}
    return {"benchmark": "a training step of the image families, fp32 unless named", **found}


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
