"""The product in parts beside torch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aigc_cli.nn.linear import FEW, PARTS, Linear, product


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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1, 3, FEW, FEW + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_products_with_weights_of_each_precision(rows: int, bias: bool, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        x, weight = torch.randn(rows, 64), torch.randn(48, 64) * torch.rand(48, 1)
        b = torch.randn(48) if bias else None
        exact = nn.functional.linear(x, weight, b)
        with torch.no_grad():
            torch.testing.assert_close(product(weight, b, "float32")(x), exact)
            half = product(weight, b, "bfloat16")(x.bfloat16())
            torch.testing.assert_close(half.float(), exact, rtol=0.02, atol=0.1)
            whole = product(weight, b, "int8")(x.bfloat16()).float()
        # Each weight is off by at most half a step, 1/254 of the largest of its row.
        least = (weight.abs().amax(1) / 254) * x.abs().sum(1, keepdim=True)
        assert ((whole - exact).abs() <= least + 0.02 * exact.abs() + 0.1).all()
    finally:
        torch.set_num_threads(before)
