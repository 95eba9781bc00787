from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.norm import InstanceNorm
from aigc_cli.sampling.anysize import any_size, smallest_tile


def halving(x: Tensor) -> Tensor:
    """Fails on sides that are no multiples of 4, and looks 4 pixels far."""
    assert x.shape[-1] % 4 == x.shape[-2] % 4 == 0
    return F.interpolate(F.avg_pool2d(x, 4), scale_factor=4) * 0.5 + x


@pytest.mark.parametrize("H", [1, 2, 8, 9, 31])
@pytest.mark.parametrize("W", [1, 5, 16])
@pytest.mark.parametrize("multiple", [4, 32])
def test_every_size_is_kept(H: int, W: int, multiple: int) -> None:
    image = torch.randn(2, 3, H, W)
    made = any_size(lambda x: halving(x)[:, :1], image, multiple=multiple, tile=0, overlap=0)
    assert made.shape == (2, 1, H, W)


def test_multiples_go_through_unchanged() -> None:
    image = torch.randn(1, 3, 8, 12)
    assert torch.equal(any_size(halving, image, multiple=4, tile=0, overlap=0), halving(image))


def test_padding_continues_by_the_mirror_image() -> None:
    seen: list[Tensor] = []

    def net(x: Tensor) -> Tensor:
        seen.append(x)
        return x

    any_size(net, torch.tensor([[[[1.0, 2.0, 3.0]]]]), multiple=8, tile=0, overlap=0)
    assert seen[0][0, 0, 4].tolist() == [2, 1, 1, 2, 3, 3, 2, 1]


@pytest.mark.parametrize("size", [(8, 8), (5, 13), (1, 1)])
@pytest.mark.parametrize("multiple", [1, 4])
def test_a_border_gives_context_and_is_cut_off(size: tuple[int, int], multiple: int) -> None:
    """A mean of 3 x 3 with zeros around darkens the outer pixels of white; with context not."""
    white = torch.ones(1, 1, *size)
    mean = torch.nn.AvgPool2d(3, 1, 1)
    plain = any_size(mean, white, multiple=1, tile=0, overlap=0)
    made = any_size(mean, white, multiple=multiple, tile=0, overlap=0, border=2)
    assert plain.min() < 0.7
    torch.testing.assert_close(made, white)


def test_tiles_equal_the_whole_where_the_network_sees_less_than_the_overlap() -> None:
    net = nn.Conv2d(2, 3, 5, padding=2)
    image = torch.randn(1, 2, 50, 41)
    with torch.no_grad():
        tiles = any_size(net, image, multiple=4, tile=23, overlap=3)
        whole = any_size(net, image, multiple=4, tile=0, overlap=0)
    torch.testing.assert_close(tiles, whole)


def test_no_tile_is_larger_than_asked_for_but_for_the_multiple() -> None:
    sides: set[int] = set()

    def net(x: Tensor) -> Tensor:
        sides.update(x.shape[-2:])
        return x

    any_size(net, torch.zeros(1, 1, 100, 70), multiple=8, tile=30, overlap=4)
    assert max(sides) == 32


def test_tiles_are_normalized_by_the_whole_picture() -> None:
    net = InstanceNorm()
    image = torch.cat([torch.full((1, 1, 32, 32), -1.0), torch.full((1, 1, 32, 32), 1.0)], 3)
    apart = any_size(net, image, multiple=4, tile=32, overlap=0)
    together = any_size(net, image, multiple=4, tile=32, overlap=0, norms=net)
    assert apart.abs().max() < 0.01
    torch.testing.assert_close(together, image, rtol=0.1, atol=0)


def test_smallest_tile_is_the_least_that_works() -> None:
    for overlap in (1, 4, 7):
        image = torch.zeros(1, 1, 40, 40)
        least = smallest_tile(overlap)
        any_size(lambda x: x, image, multiple=1, tile=least, overlap=overlap)
        with pytest.raises(ValueError, match="too small"):
            any_size(lambda x: x, image, multiple=1, tile=least - 1, overlap=overlap)


def test_a_network_that_changes_the_size_is_refused() -> None:
    with pytest.raises(ValueError, match="pixels"):
        any_size(lambda x: x[..., :2], torch.zeros(1, 1, 8, 8), multiple=4, tile=0, overlap=0)
