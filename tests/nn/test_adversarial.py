import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from aigc_cli.nn.adversarial import (
    Objective,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    penalized,
    zero_centered_penalty,
)

KINDS = get_args(Objective)
REAL, FAKE = torch.tensor([2.0, -1.0]), torch.tensor([0.5, -3.0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    "kind, of_discriminator, of_generator",
    [
        (
            "vanilla",
            -sum(math.log(sigmoid(r)) + math.log(1 - sigmoid(f)) for r, f in ((2, 0.5), (-1, -3)))
            / 2,
            -(math.log(sigmoid(0.5)) + math.log(sigmoid(-3))) / 2,
        ),
        ("lsgan", (1 + 4) / 2 + (0.25 + 9) / 2, (0.25 + 16) / 2),
        ("hinge", (0 + 2) / 2 + (1.5 + 0) / 2, (-0.5 + 3) / 2),
        ("wgan", (0.5 - 3) / 2 - (2 - 1) / 2, (-0.5 + 3) / 2),
        (
            "relativistic",
            -(math.log(sigmoid(2 - 0.5)) + math.log(sigmoid(-1 + 3))) / 2,
            -(math.log(sigmoid(0.5 - 2)) + math.log(sigmoid(-3 + 1))) / 2,
        ),
    ],
)
def test_losses_by_hand(kind: Objective, of_discriminator: float, of_generator: float) -> None:
    assert discriminator_loss(kind, REAL, FAKE).item() == pytest.approx(of_discriminator, rel=1e-5)
    assert generator_loss(kind, FAKE, REAL).item() == pytest.approx(of_generator, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_two_pull_the_fakes_apart(kind: Objective) -> None:
    fake = torch.tensor([0.2], requires_grad=True)
    (down,) = torch.autograd.grad(discriminator_loss(kind, torch.tensor([0.1]), fake), fake)
    (up,) = torch.autograd.grad(generator_loss(kind, fake, torch.tensor([0.1])), fake)
    assert down > 0 > up


@pytest.mark.parametrize("kind", KINDS)
def test_patches_count_like_pictures(kind: Objective) -> None:
    real, fake = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = discriminator_loss(kind, real, fake)
    assert torch.allclose(whole, discriminator_loss(kind, real.flatten(), fake.flatten()))


def test_the_relativistic_generator_needs_real_logits() -> None:
    with pytest.raises(ValueError, match="real logits"):
        generator_loss("relativistic", FAKE)


def linear(weight: Tensor) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(2, 5, *weight.shape, generator=random).unbind()


def test_gradient_penalty_of_a_linear_critic() -> None:
    """Its gradient is the weight everywhere: (|w| - 1)^2, wherever the points are."""
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]], requires_grad=True)
    real, fake = linear(weight)
    critic = lambda x: (x * weight).sum((1, 2))  # noqa: E731
    penalty = gradient_penalty(critic, real, fake, torch.rand(5))
    assert penalty.item() == pytest.approx((5 - 1) ** 2)
    penalty.backward()  # 2 (|w| - 1) w / |w|
    assert weight.grad is not None
    assert torch.allclose(weight.grad, 8 * weight.detach() / 5)


def test_the_gradient_penalty_is_taken_between_real_and_fake() -> None:
    real, fake = torch.full((4, 1), 3.0), torch.full((4, 1), -1.0)
    mix = torch.tensor([0.0, 0.25, 0.5, 1.0])
    seen: list[Tensor] = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach().squeeze(1))
        return x.square().sum(1) / 2

    penalty = gradient_penalty(critic, real, fake, mix)  # the gradient at x is x
    assert torch.allclose(seen[0], torch.tensor([-1.0, 0.0, 1.0, 3.0]))
    assert penalty.item() == pytest.approx((0 + 1 + 0 + 4) / 4)


def test_zero_centered_penalty_of_linear_and_quadratic_critics() -> None:
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    real, _ = linear(weight)
    assert zero_centered_penalty(lambda x: (x * weight).sum((1, 2)), real).item() == pytest.approx(
        25
    )
    square = lambda x: x.square().sum((1, 2))  # noqa: E731
    expected = (2 * real).square().sum((1, 2)).mean()
    assert torch.allclose(zero_centered_penalty(square, real), expected)


def test_one_pass_gives_the_logits_and_the_penalty() -> None:
    torch.manual_seed(0)
    critic = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    images = torch.randn(6, 3)
    logits, penalty = penalized(critic, images)
    assert torch.equal(logits, critic(images))
    assert torch.equal(penalty, zero_centered_penalty(critic, images))
    assert not images.requires_grad


def test_penalties_are_in_full_precision() -> None:
    layer = torch.nn.Linear(3, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, penalty = penalized(layer, torch.randn(2, 3).bfloat16())
        assert layer(torch.randn(2, 3)).dtype == torch.bfloat16
    assert logits.dtype == penalty.dtype == torch.float32
