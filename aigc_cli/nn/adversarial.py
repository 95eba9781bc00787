"""Objectives of generative adversarial networks, as functions of what a discriminator says.

`real` and `fake` are logits of any shape, (B,) for whole images or (B, 1, h, w) for patches;
every loss is a mean over all of them, so all discriminators share these functions.

| kind           | source                                       | of the discriminator          |
|----------------|----------------------------------------------|-------------------------------|
| `vanilla`      | Goodfellow et al. 2014, non-saturating       | cross-entropy                 |
| `lsgan`        | Mao et al. 2017, targets 1 and 0             | squared error                 |
| `hinge`        | Miyato et al. 2018                           | max(0, 1 - r) + max(0, 1 + f) |
| `wgan`         | Gulrajani et al. 2017                        | f - r, and `gradient_penalty` |
| `relativistic` | Jolicoeur-Martineau 2019; Huang et al. 2024  | softplus(f - r)               |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Objective = Literal["vanilla", "lsgan", "hinge", "wgan", "relativistic"]


def discriminator_loss(kind: Objective, real: Tensor, fake: Tensor) -> Tensor:
    """What the discriminator minimizes; the sum over real and fake images, not its half."""
    match kind:
        case "vanilla":
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        case "lsgan":
            return (real - 1).square().mean() + fake.square().mean()
        case "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        case "wgan":
            return fake.mean() - real.mean()
        case "relativistic":
            return F.softplus(fake - real).mean()


def generator_loss(kind: Objective, fake: Tensor, real: Tensor | None = None) -> Tensor:
    """What the generator minimizes; `relativistic` compares with the logits of real images."""
    match kind:
        case "vanilla":
            return F.softplus(-fake).mean()
        case "lsgan":
            return (fake - 1).square().mean()
        case "hinge" | "wgan":
            return -fake.mean()
        case "relativistic":
            if real is None:
                raise ValueError("the relativistic loss of a generator needs the real logits too")
            return F.softplus(real - fake).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor
) -> Tensor:
    """Mean of (|gradient| - 1)^2 at points between real and fake; weight 10 in WGAN-GP.

    real, fake: (B, ...); mix: (B,) uniform in [0, 1). In fp32, since squares of gradients overflow
    in half precision.
    """
    mix = mix.view(-1, *[1] * (real.ndim - 1))
    between = torch.lerp(fake.detach(), real.detach(), mix)
    _, gradient = _with_gradient(critic, between)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def zero_centered_penalty(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Mean of |gradient|^2 at `images` (B, ...): R1 on real images, R2 on fake ones; the usual
    weight is gamma / 2 (Mescheder et al. 2018; Roth et al. 2017).
    """
    return penalized(critic, images)[1]


def penalized(critic: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """What the critic says of `images` and their `zero_centered_penalty`, in one pass."""
    logits, gradient = _with_gradient(critic, images.detach())
    return logits, gradient.square().flatten(1).sum(1).mean()


def _with_gradient(critic: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """critic(images) and its derivative with a graph, in full precision whatever trains."""
    with torch.autocast(images.device.type, enabled=False):
        images = images.float().requires_grad_(True)
        logits = critic(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return logits, gradient
