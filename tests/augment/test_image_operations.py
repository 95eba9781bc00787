"""The classical operations do what their names say, by their amounts, within the range."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.augment._augmentation import Draw
from aigc_cli.augment._image_operations import Options, vary, with_hue

NONE = dict.fromkeys(("rotation", "scale", "shear", "crop", "light", "color", "noise"), 0.0)


def only(**amounts: float | bool) -> Options:
    return Options(**{**NONE, **amounts})  # type: ignore[arg-type]


def test_without_operations_nothing_changes() -> None:
    image = torch.rand(3, 7, 5)
    same, done = vary(image, None, only(), Draw(0, 0))
    assert torch.equal(same, image)
    assert done == []


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1, 2, 3, 4]))
def test_everything_at_once_stays_in_range_and_is_recorded(number: int, channels: int) -> None:
    image = torch.rand(channels, 12, 9)
    options = Options(flip=True, cutout=0.3, mix=0.4)
    one, done = vary(image, torch.rand(channels, 12, 9), options, Draw(5, number))
    again, _ = vary(
        image, torch.rand(channels, 12, 9), Options(flip=True, cutout=0.3), Draw(5, number)
    )
    assert one.shape == again.shape == image.shape
    assert float(one.min()) >= 0
    assert float(one.max()) <= 1
    names = [operation["name"] for operation in done if operation["name"] != "flip"]
    color = ["color"] if channels >= 3 else []
    assert names == ["affine", "light", *color, "mix", "noise", "cutout"]


def test_the_same_draw_gives_the_same_image() -> None:
    image, options = torch.rand(3, 16, 16), Options()
    one, done = vary(image, None, options, Draw(1, 7))
    again, same = vary(image, None, options, Draw(1, 7))
    other, _ = vary(image, None, options, Draw(1, 8))
    assert torch.equal(one, again)
    assert done == same
    assert not torch.equal(one, other)


def test_turning_agrees_with_torchvision() -> None:
    from torchvision.transforms.v2 import functional as tv

    image = torch.nn.functional.avg_pool2d(torch.rand(1, 44, 60), 5, 1)  # smooth: (1, 40, 56)
    turned, ((operation),) = vary(image, None, only(rotation=30), Draw(0, 3))
    degrees = operation["degrees"]
    assert abs(degrees) <= 30
    theirs = tv.rotate(image, degrees, tv.InterpolationMode.BILINEAR)
    inside = (slice(None), slice(12, 28), slice(18, 38))
    assert float((turned - theirs)[inside].abs().max()) < 0.01


def test_scale_and_crop_agree_with_their_amounts() -> None:
    image = torch.linspace(0, 1, 41).expand(1, 41, 41)  # value is the place from left to right
    moved, (operation,) = vary(image, None, only(crop=0.2), Draw(0, 1))
    assert abs(float(moved[0, 20, 20]) - 0.5 - operation["right"] * 41 / 40) < 1e-3
    larger, (operation,) = vary(image, None, only(scale=0.5), Draw(0, 1))
    slope = float(larger[0, 20, 22] - larger[0, 20, 18]) * 10
    assert abs(slope * operation["scale"] - 1) < 1e-2


def test_transparency_moves_along_and_keeps_its_values() -> None:
    image = torch.cat([torch.rand(3, 20, 20), (torch.rand(1, 20, 20) > 0.5).float()])
    lit, _ = vary(image, None, only(light=0.5, noise=0.5), Draw(0, 0))
    assert torch.equal(lit[3], image[3])
    flipped = [vary(image, None, only(flip=True), Draw(0, n))[0] for n in range(8)]
    assert any(torch.equal(f[3], image[3].flip(-1)) for f in flipped)


@pytest.mark.parametrize("turns", [-0.3, 0.02, 0.5])
def test_moving_the_hue_agrees_with_torchvision(turns: float) -> None:
    from torchvision.transforms.v2 import functional as tv

    colors = torch.rand(3, 9, 12)
    colors[:, 0] = 0.5  # without a hue
    colors[:, 1] = torch.tensor([0.2, 0.2, 0.7])[:, None]  # two channels alike
    assert float((with_hue(colors, turns) - tv.adjust_hue(colors, turns)).abs().max()) < 1e-5
