"""Muon and AdamW in one optimizer: step for step those of torch, and what the papers promise."""

from __future__ import annotations

import copy
from math import sqrt
from typing import Any

import pytest
import torch
from torch import nn

from aigc_cli.nn.muon import MuonAdamW

RATES = (1e-2, 2e-2, 5e-3, 1e-3)


def weights() -> list[nn.Parameter]:
    """Two hidden matrices, an embedding and a scale."""
    random = torch.Generator().manual_seed(0)
    shapes = [(8, 24), (24, 8), (11, 8), (8,)]
    return [nn.Parameter(torch.randn(shape, generator=random)) for shape in shapes]


def made(params: list[nn.Parameter]) -> MuonAdamW:
    groups: list[dict[str, Any]] = [
        {"params": params[2:3], "weight_decay": 0.3},
        {"params": params[3:], "weight_decay": 0.0},
    ]
    return MuonAdamW(params[:2], groups, 1e-2, (0.9, 0.95), 0.3)


def go(params: list[nn.Parameter], optimizers: list[torch.optim.Optimizer], step: int) -> None:
    random = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=random)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = RATES[step % len(RATES)]
        optimizer.step()


def test_each_step_is_that_of_muon_and_of_adamw() -> None:
    ours, theirs = weights(), weights()
    optimizer = made(ours)
    muon = torch.optim.Muon(theirs[:2], 1e-2, 0.3, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": theirs[2:3], "weight_decay": 0.3}, {"params": theirs[3:]}]
    adamw = torch.optim.AdamW(groups, 1e-2, (0.9, 0.95), weight_decay=0.0)
    for step in range(6):
        go(ours, [optimizer], step)
        go(theirs, [muon, adamw], step)
        for a, b in zip(ours[:2], theirs[:2], strict=True):
            assert torch.equal(a, b)
        for a, b in zip(ours[2:], theirs[2:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)])
def test_an_update_has_the_singular_vectors_of_the_gradient_and_the_size_of_adamws(
    shape: tuple[int, int],
) -> None:
    """Without momentum; the five iterations leave singular values between 0.5 and 1.5."""
    random = torch.Generator().manual_seed(1)
    weight = nn.Parameter(torch.zeros(shape))
    scale = nn.Parameter(torch.zeros(3))
    weight.grad = torch.randn(shape, generator=random)
    scale.grad = torch.ones(3)
    MuonAdamW([weight], [{"params": [scale]}], 0.1, (0.9, 0.95), 0.0).step()
    U, S, V = torch.linalg.svd(weight.grad, full_matrices=False)
    turned = U.T @ -weight.detach() @ V.T / (0.1 * 0.2 * sqrt(max(shape)))
    kept = S / S.max() > 0.2  # the smallest of a square matrix are not there yet
    values = turned.diagonal()[kept]
    assert values.min() > 0.5
    assert values.max() < 1.5
    assert (turned - turned.diagonal().diag()).abs().max() < 0.05  # bfloat16
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.02, rel=0.25)


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    params = weights()
    optimizer = made(params)
    for step in range(3):
        go(params, [optimizer], step)
    again = [nn.Parameter(p.detach().clone()) for p in params]
    other = made(again)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(3, 6):
        go(params, [optimizer], step)
        go(again, [other], step)
    assert all(torch.equal(a, b) for a, b in zip(params, again, strict=True))
