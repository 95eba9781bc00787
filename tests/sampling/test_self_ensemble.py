"""The eight views of an image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aigc_cli.sampling.self_ensemble import self_ensemble


def upscaler() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.Tanh(), nn.PixelShuffle(2))
    return net.requires_grad_(False)


def test_equals_the_mean_written_out() -> None:
    """Index arithmetic instead of flips: the eight ways to read rows and columns."""
    fn, image = upscaler(), torch.randn(2, 3, 6, 9)
    views = []
    for transpose in (False, True):
        for rows in (1, -1):
            for columns in (1, -1):
                view = image.transpose(-1, -2) if transpose else image
                H, W = view.shape[-2:]
                y = torch.arange(H) if rows == 1 else torch.arange(H - 1, -1, -1)
                x = torch.arange(W) if columns == 1 else torch.arange(W - 1, -1, -1)
                out = fn(view[:, :, y][:, :, :, x])
                y = torch.arange(2 * H) if rows == 1 else torch.arange(2 * H - 1, -1, -1)
                x = torch.arange(2 * W) if columns == 1 else torch.arange(2 * W - 1, -1, -1)
                out = out[:, :, y][:, :, :, x]
                views.append(out.transpose(-1, -2) if transpose else out)
    torch.testing.assert_close(self_ensemble(fn, image), torch.stack(views).mean(0))


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_turning_the_picture_turns_the_result(turns: int, flip: bool) -> None:
    fn, image = upscaler(), torch.randn(1, 3, 7, 10)

    def turn(x: Tensor) -> Tensor:
        return (x.flip(-1) if flip else x).rot90(turns, (-2, -1))

    assert not torch.allclose(fn(turn(image)), turn(fn(image)), atol=1e-3)
    torch.testing.assert_close(self_ensemble(fn, turn(image)), turn(self_ensemble(fn, image)))


def test_leaves_an_equivariant_function_alone() -> None:
    image = torch.randn(1, 1, 5, 8)
    torch.testing.assert_close(self_ensemble(lambda x: 2 * x, image), 2 * image)


def test_views_are_eight_and_different() -> None:
    seen: list[Tensor] = []

    def record(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return x

    self_ensemble(record, torch.arange(6.0).reshape(1, 1, 2, 3))
    assert len({tuple(x.shape) + tuple(x.flatten().tolist()) for x in seen}) == 8
