from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from aigc_cli.nn.unet_generator import (
    Dropout,
    UNetGenerator,
    _upsampling,
    depth_for,
    dropout_from,
)


@pytest.mark.parametrize(("image_size", "depth"), [(8, 3), (96, 5), (128, 7), (256, 8), (512, 8)])
def test_depth_halves_pictures_to_one_pixel_as_far_as_they_divide(
    image_size: int, depth: int
) -> None:
    assert depth_for(image_size) == depth


def test_has_the_weights_of_the_paper() -> None:
    with torch.device("meta"):
        net = UNetGenerator(3, 3, 8, norm="batch")
    # unet_256 of the authors' code says 54.414 M
    widths = [64, 128, 256, 512, 512, 512, 512, 512]
    down = 3 * 64 * 16 + sum(a * b * 16 for a, b in pairwise(widths))
    up = 512 * 512 * 16 + sum(
        2 * a * b * 16 for a, b in zip(widths[1:-1], widths[:-2], strict=True)
    )
    up += 2 * 64 * 3 * 16
    norms = 2 * sum(widths[1:-1]) + 2 * sum(widths[:-1])
    biases = 64 + 512 + 3
    assert sum(p.numel() for p in net.parameters()) == down + up + norms + biases == 54_414_531


@pytest.mark.parametrize("upsample", ["transpose", "resize"])
@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_keeps_the_size_of_multiples(norm: str, upsample: str) -> None:
    net = UNetGenerator(1, 2, 3, features=4, norm=norm, upsample=upsample)  # type: ignore[arg-type]
    assert net(torch.randn(2, 1, 8, 24)).shape == (2, 2, 8, 24)


def test_evaluation_is_deterministic_and_one_picture_does_not_see_the_next() -> None:
    net = UNetGenerator(3, 3, 3, features=4).eval()
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(net(images)[1:2], net(images[1:2]))


def test_dropout_from_elsewhere_is_on_and_only_inside() -> None:
    layer = Dropout(0.25).eval()
    x = torch.ones(2, 3, 4, 4)
    coins = torch.rand(2, 3, 4, 4)
    with dropout_from(layer, lambda *shape: coins):
        made = layer(x)
    assert torch.equal(made, torch.where(coins >= 0.25, 4 / 3, 0.0))
    assert torch.equal(layer(x), x)


def test_resize_leaves_no_blocks() -> None:
    """A slope stays a slope: neighbors differ by the same everywhere but at the border."""
    upsample, conv = _upsampling(1, 1, "resize", bias=False)
    assert isinstance(conv, nn.Conv2d)
    nn.init.dirac_(conv.weight)
    slope = torch.arange(8.0).expand(1, 1, 8, 8)
    steps = conv(upsample(slope))[0, 0, 2:-2, 2:-2].diff(dim=1)
    torch.testing.assert_close(steps, torch.full_like(steps, 0.5))
