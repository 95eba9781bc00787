"""EDSR: published sizes, shapes, tiling."""

from __future__ import annotations

import pytest
import torch

from aigc_cli.models.image.edsr import Config, Model, Options
from aigc_cli.nn.precision import multiplies_bf16
from aigc_cli.specs.image import SuperResolutionSpec


def model(scale: int = 2, channels: int = 3, **config: object) -> Model:
    torch.manual_seed(0)
    made = Model(Config(**config), SuperResolutionSpec(channels=channels, scale=scale))  # type: ignore[arg-type]
    return made.eval()


@pytest.mark.parametrize(
    ("scale", "config", "millions"),
    [
        (2, {}, 1.37),
        (3, {}, 1.55),
        (4, {}, 1.52),
        (2, {"num_blocks": 32, "num_features": 256, "residual_scale": 0.1}, 40.73),
    ],
)
def test_number_of_weights_is_the_published_one(
    scale: int, config: dict[str, float], millions: float
) -> None:
    """1.37 / 1.55 / 1.52 M: README of the authors' code; 40.7 M: its full network for x2."""
    with torch.device("meta"):
        network = Model(Config(**config), SuperResolutionSpec(channels=3, scale=scale))  # type: ignore[arg-type]
    count = sum(p.numel() for p in network.parameters())
    assert round(count / 1e6, 2) == millions


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_becomes_scale_times_as_large(scale: int, channels: int) -> None:
    network = model(scale, channels, num_blocks=1, num_features=4)
    low = torch.rand(2, channels, 7, 5) * 2 - 1
    assert network.super_resolve(low, Options()).shape == (
        2, channels, 7 * scale, 5 * scale,
    )  # fmt: skip


def test_tiles_have_no_seams() -> None:
    """Below 1/255 of the range with the default overlap and the baseline's depth."""
    network = model(num_blocks=16, num_features=8)
    low = torch.rand(1, 3, 90, 70) * 2 - 1
    whole = network.super_resolve(low, Options(tile=0))
    tiled = network.super_resolve(low, Options(tile=64))
    assert (whole - tiled).abs().max() < 2 / 255  # [-1, 1] is 2 wide
    exact = network.super_resolve(low, Options(tile=96, overlap=38))
    torch.testing.assert_close(exact, whole, rtol=0, atol=1e-5)


def test_self_ensemble_commutes_with_mirroring() -> None:
    network = model(num_blocks=1, num_features=4)
    low = torch.rand(1, 3, 12, 8) * 2 - 1
    options = Options(self_ensemble=True)
    one = network.super_resolve(low.flip(-1), options).flip(-1)
    torch.testing.assert_close(one, network.super_resolve(low, options))
    plain = network.super_resolve(low, Options())
    assert not torch.allclose(one, plain)


def test_bf16_keeps_the_last_convolution_in_fp32() -> None:
    network = model(num_blocks=1, num_features=4)
    with torch.autocast("cpu", torch.bfloat16):
        high = network.net(torch.zeros(1, 3, 8, 8))
    assert high.dtype == torch.float32


def test_white_stays_white_up_to_its_corners() -> None:
    """Zeros around an image are gray to the network: a white corner became 213, 211, 197."""
    network = model(num_blocks=2, num_features=8)
    for options in (Options(), Options(tile=40, overlap=8)):
        made = network.super_resolve(torch.ones(1, 3, 64, 64), options)
        inside = made[..., 60:62, 60:62].repeat(1, 1, 64, 64)  # the phases of a pixel shuffle
        torch.testing.assert_close(made, inside, atol=0.1 / 127.5, rtol=0)


def test_the_ring_of_a_crop_is_as_in_the_whole() -> None:
    """The outer 4 pixels, against what the network makes of the photograph around them."""
    network = model(num_blocks=2, num_features=8)
    photo = torch.rand(1, 3, 40, 44, generator=torch.Generator().manual_seed(0)) * 2 - 1
    photo = torch.nn.functional.avg_pool2d(photo, 5, 1, 2, count_include_pad=False)
    crop = photo[..., 10:30, 12:34]
    with torch.no_grad():
        truth = network.net(photo)[..., 20:60, 24:68]
        bare = network.net(crop)
    made = network.super_resolve(crop, Options(precision="fp32"))

    def ring_error(x: torch.Tensor) -> float:
        error = (x - truth).square()
        error[..., 4:-4, 4:-4] = 0
        return float(error.sum())

    assert ring_error(made) < ring_error(bare) / 4


@pytest.mark.parametrize("deep", [False, True])
def test_bf16_is_taken_only_where_no_pixel_changes_by_half_a_level(deep: bool) -> None:
    """And recorded; 16 bits are always worked on in fp32."""
    network = model(num_blocks=2, num_features=8)
    levels = 65535 if deep else 255
    low = torch.randint(0, levels + 1, (1, 3, 30, 40)) / levels * 2 - 1
    made = network.super_resolve(low, Options())
    exact = network.super_resolve(low, Options(precision="fp32"))
    assert network.facts == {"precision": "fp32"}
    network.super_resolve(low, Options())
    difference = 127.5 * float((made - exact).abs().max())
    assert difference < 0.5
    if deep or not multiplies_bf16("cpu"):
        assert network.facts == {"precision": "fp32"}
        assert difference == 0
    else:
        assert network.facts["precision"] == "bf16"
        assert network.facts["levels_from_fp32"] == pytest.approx(difference, abs=0.2)
        assert difference > 0


def test_a_network_that_bf16_spoils_runs_in_fp32() -> None:
    network = model(num_blocks=2, num_features=8)
    with torch.no_grad():
        for block in network.net.body[:-1]:
            block.conv2.weight.mul_(300)
    network.super_resolve(torch.zeros(1, 3, 16, 16), Options())
    assert network.facts["precision"] == "fp32"
