"""Policy gradients against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aigc_cli.nn.policy import (
    EPSILON,
    clipped_surrogate,
    group_advantages,
    k3_divergence,
    leave_one_out_advantages,
    normalize,
)

REWARDS = torch.tensor([[1.0, 0.0, 0.0, 3.0], [2.0, 2.0, 2.0, 2.0]])


def test_advantages_are_relative_to_the_group() -> None:
    centered = torch.tensor([[0.0, -1.0, -1.0, 2.0], [0.0] * 4])
    torch.testing.assert_close(group_advantages(REWARDS, scale=False), centered)
    scaled = centered[0] / (math.sqrt(2) + EPSILON)  # squares 0 + 1 + 1 + 4, over 3
    torch.testing.assert_close(group_advantages(REWARDS, scale=True)[0], scaled)


def test_equal_rewards_teach_nothing() -> None:
    assert torch.equal(group_advantages(REWARDS, scale=True)[1], torch.zeros(4))


def test_leave_one_out_is_the_mean_of_the_others() -> None:
    others = torch.tensor([[3 / 3, 4 / 3, 4 / 3, 1 / 3], [2.0] * 4])
    torch.testing.assert_close(leave_one_out_advantages(REWARDS), REWARDS - others)


def test_leave_one_out_is_unbiased() -> None:
    """The expected gradient over all samples of a toy policy is that of the expected reward."""
    logits = torch.tensor([0.2, -0.4, 0.9], requires_grad=True)
    value = torch.tensor([1.0, 5.0, -2.0])
    (exact,) = torch.autograd.grad((logits.softmax(0) * value).sum(), logits)
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    log_probs = logits.log_softmax(0)[pairs]
    chance = log_probs.sum(1).exp().detach()
    estimate = (leave_one_out_advantages(value[pairs]) * log_probs).mean(1)
    (gradient,) = torch.autograd.grad((chance * estimate).sum(), logits)
    torch.testing.assert_close(gradient, exact)


@pytest.mark.parametrize(
    "ratio, advantage, loss, clipped",
    [
        (1.1, 2.0, -2.2, False),
        (1.5, 2.0, -2 * 1.28, True),  # no reward for going further
        (0.5, 2.0, -1.0, False),  # but free to come back
        (0.5, -2.0, 1.6, True),
        (1.5, -2.0, 3.0, False),
    ],
)
def test_the_ratio_is_clipped(ratio: float, advantage: float, loss: float, clipped: bool) -> None:
    old = torch.tensor([[-1.0]])
    new = (old + math.log(ratio)).requires_grad_()
    value, held = clipped_surrogate(new, old, torch.tensor([[advantage]]), low=0.2, high=0.28)
    torch.testing.assert_close(value, torch.tensor([[loss]]))
    assert bool(held) == clipped
    (gradient,) = torch.autograd.grad(value.sum(), new)
    assert (gradient == 0).item() == clipped


def test_k3_is_an_unbiased_estimate_of_the_divergence() -> None:
    policy, reference = torch.randn(2, 6).log_softmax(1)
    estimate = k3_divergence(policy, reference)
    exact = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * estimate).sum(), exact)
    assert (estimate >= 0).all()


def test_normalizers() -> None:
    losses = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 9.0, 9.0, 9.0]])
    mask = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])

    def value(how: str) -> float:
        return float(normalize(losses, mask, how, max_tokens=8, mean_tokens=5))  # type: ignore[arg-type]

    assert value("grpo") == pytest.approx((10 / 4 + 5 / 1) / 2)
    assert value("dr_grpo") == pytest.approx(15 / (2 * 8))
    assert value("dapo") == pytest.approx(15 / 5)


@pytest.mark.parametrize("how", ["grpo", "dr_grpo", "dapo"])
def test_parts_add_up_to_the_whole(how: str) -> None:
    """Also where their lengths differ, which per-part means of tokens get wrong."""
    torch.manual_seed(0)
    losses, mask = torch.randn(8, 5), (torch.rand(8, 5) < 0.5).float()

    def value(rows: slice, parts: int) -> Tensor:
        tokens = mask.sum() / parts
        return normalize(losses[rows], mask[rows], how, max_tokens=5, mean_tokens=tokens)  # type: ignore[arg-type]

    whole = value(slice(0, 8), 1)
    parts = sum(value(slice(2 * n, 2 * n + 2), 4) for n in range(4)) / 4
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
