"""The product in parts beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aigc_cli.nn.linear import FEW, PARTS, Linear


@pytest.mark.parametrize("out", [1, PARTS, 4 * PARTS, 4 * PARTS + 3])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 1, 5), (2, 3, 5), (FEW + 1, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_torchs_with_and_without_gradients(
    out: int, shape: tuple[int, ...], bias: bool
) -> None:
    torch.manual_seed(0)
    ours, theirs = Linear(5, out, bias=bias), nn.Linear(5, out, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape)
    assert torch.equal(ours(x), theirs(x))
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_other_types_and_wide_batches_are_left_to_torch() -> None:
    layer = Linear(64, 64)
    wide, exact = torch.randn(FEW + 1, 64), torch.randn(1, 64, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(layer(wide), nn.functional.linear(wide, layer.weight, layer.bias))
        layer.double()
        assert torch.equal(layer(exact), nn.functional.linear(exact, layer.weight, layer.bias))
