"""Tiled inference against the whole image at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aigc_cli.sampling.tiling import tiled


class Upscaler(nn.Module):
    """`depth` 3x3 convolutions and a pixel shuffle: reaches `depth` pixels from its center."""

    def __init__(self, depth: int, scale: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1)]
        for _ in range(depth - 2):
            layers += [nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)]
        layers += [nn.ReLU(), nn.Conv2d(8, 3 * scale**2, 3, padding=1), nn.PixelShuffle(scale)]
        self.layers = nn.Sequential(*layers).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def picture(H: int, W: int, B: int = 1) -> Tensor:
    return torch.rand(B, 3, H, W, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("H, W", [(64, 64), (65, 40), (23, 97), (24, 24), (7, 5), (1, 60)])
def test_equals_the_whole_when_overlap_covers_the_receptive_field(
    H: int, W: int, scale: int
) -> None:
    net, image = Upscaler(4, scale), picture(H, W, B=2)
    out = tiled(net, image, tile=24, overlap=4, scale=scale)
    torch.testing.assert_close(out, net(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("tile, overlap", [(16, 0), (12, 1), (11, 4), (64, 5), (200, 3)])
def test_weights_sum_to_one_for_any_tiles(tile: int, overlap: int) -> None:
    image = picture(83, 61)
    out = tiled(lambda x: x, image, tile=tile, overlap=overlap, scale=1)
    torch.testing.assert_close(out, image, atol=1e-6, rtol=0)


def test_seams_stay_below_one_level_when_the_field_is_larger_than_the_overlap() -> None:
    """Blurring 40 times reaches 40 pixels, of which an overlap of 16 covers what matters."""

    def blur(x: Tensor) -> Tensor:
        for _ in range(40):
            x = nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return x

    y, x = torch.meshgrid(torch.linspace(-3, 3, 90), torch.linspace(-3, 3, 110), indexing="ij")
    image = (torch.sin(3 * x) * torch.cos(2 * y) + 0.2 * picture(90, 110)[0, 0])[None, None]
    whole = blur(image)
    out = tiled(blur, image, tile=64, overlap=16, scale=1)
    assert (out - whole).abs().max() < 2 / 255  # of the range [-1, 1]
    hard = tiled(blur, image, tile=32, overlap=0, scale=1)
    assert (hard - whole).abs().max() > 10 / 255  # the same net does need its overlap


def test_blending_leaves_no_step() -> None:
    """A network that offsets each tile differently: the result is continuous all the same."""
    calls = []

    def offset(x: Tensor) -> Tensor:
        calls.append(x.shape)
        return torch.full_like(x, float(len(calls) % 2))

    out = tiled(offset, torch.zeros(1, 1, 8, 200), tile=64, overlap=16, scale=1)
    assert len(calls) > 3
    assert out.diff(dim=-1).abs().max() <= 1 / 8 + 1e-6
    assert (out.min(), out.max()) == (0, 1)


def test_no_tile_is_larger_than_asked_and_all_have_context() -> None:
    shapes = []

    def record(x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape[-2:]))
        return x

    tiled(record, picture(130, 75), tile=32, overlap=5, scale=1)
    assert set(shapes) == {(30, 29)}, "all of the same size, as small as they can be"


def test_tiles_are_fitted() -> None:
    """The last tile was moved inside at full size: 2.27 times the pixels of this image."""
    pixels = []

    def record(x: Tensor) -> Tensor:
        pixels.append(x.shape[-2] * x.shape[-1])
        return x

    tiled(record, picture(340, 510), tile=256, overlap=16, scale=1)
    assert len(pixels) == 6
    assert sum(pixels) / (340 * 510) < 1.3


@pytest.mark.parametrize("length", [24, 40, 48, 104, 256])
def test_tiles_keep_to_a_multiple(length: int) -> None:
    sides: set[int] = set()

    def record(x: Tensor) -> Tensor:
        sides.update(x.shape[-2:])
        return x

    image = picture(length, 32)
    out = tiled(record, image, tile=40, overlap=5, scale=1, multiple=8)
    assert all(side % 8 == 0 and side <= 40 for side in sides)
    torch.testing.assert_close(out, image, atol=1e-6, rtol=0)


def test_low_precision_is_blended_in_float32() -> None:
    image = picture(40, 40)
    out = tiled(lambda x: x.bfloat16(), image, tile=16, overlap=2, scale=1)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, image.bfloat16().float(), atol=1e-6, rtol=0)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="a tile of 10 pixels is too small for an overlap of 4"):
        tiled(lambda x: x, picture(40, 40), tile=10, overlap=4, scale=1)
    with pytest.raises(ValueError, match=r"made \(14, 14\) pixels of a tile, not \(28, 28\)"):
        tiled(lambda x: x, picture(40, 40), tile=16, overlap=2, scale=2)
