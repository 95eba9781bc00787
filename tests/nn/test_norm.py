"""Group normalization in both layouts, against its definition."""

from __future__ import annotations

import pytest
import torch

from aigc_cli.nn.norm import GroupNorm, group_norm

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("groups", [1, 4, 12])
def test_a_group_has_mean_0_and_variance_1(layout: torch.memory_format, groups: int) -> None:
    x = (torch.randn(3, 12, 5, 7) * 4 + 2).to(memory_format=layout)
    made = group_norm(x, groups)
    assert made.stride() == x.stride(), "the layout is kept"
    parts = made.reshape(3, groups, -1)
    torch.testing.assert_close(parts.mean(2), torch.zeros(3, groups), atol=1e-5, rtol=0)
    torch.testing.assert_close(parts.var(2, correction=0), torch.ones(3, groups))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_both_layouts_give_the_same_values_and_gradients(dtype: torch.dtype) -> None:
    norm = GroupNorm(4, 8)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    norm.to(dtype)
    x, upstream = torch.randn(2, 2, 8, 6, 6).to(dtype)
    found = []
    for layout in LAYOUTS.values():
        leaf = x.clone(memory_format=layout).requires_grad_()
        norm.zero_grad()
        made = norm(leaf)
        made.backward(upstream.clone(memory_format=layout))
        assert leaf.grad is not None
        assert norm.weight.grad is not None
        found.append([made.detach(), leaf.grad, norm.weight.grad.clone()])
    for plain, last in zip(*found, strict=True):
        torch.testing.assert_close(plain, last)
    reference = torch.nn.functional.group_norm(
        x.double(), 4, norm.weight.double(), norm.bias.double()
    )
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    torch.testing.assert_close(found[1][0].double(), reference, atol=tolerance, rtol=tolerance)


def test_what_is_not_a_picture_is_normalized_too() -> None:
    x = torch.randn(2, 6, 5)
    torch.testing.assert_close(group_norm(x, 3), torch.nn.functional.group_norm(x, 3))
