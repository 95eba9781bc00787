"""The moving average against its definition."""

from __future__ import annotations

import torch
from torch import nn

from aigc_cli.nn.ema import EMA


def test_update_follows_the_definition_with_warm_up() -> None:
    module = nn.Linear(3, 2)
    ema = EMA(module, decay=0.5)
    expected = module.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            module.weight.add_(torch.randn(2, 3))
        ema.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach()
    torch.testing.assert_close(ema.state_dict()["weight"], expected)


def test_applied_gives_the_average_and_returns_the_very_bits() -> None:
    module = nn.Linear(3, 2)
    ema = EMA(module, decay=0.9)
    with torch.no_grad():
        module.weight.add_(1)
    own = module.weight.detach().clone()
    ema.update(0)
    with ema.applied():
        assert torch.equal(module.weight, ema.state_dict()["weight"])
        assert not torch.equal(module.weight, own)
    assert torch.equal(module.weight, own)


def test_state_goes_around() -> None:
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    one, other = EMA(a, 0.9), EMA(b, 0.9)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.state_dict()["weight"], a.weight)
    other.update(0)
    assert torch.equal(one.state_dict()["weight"], a.weight), "a copy, not the same memory"
