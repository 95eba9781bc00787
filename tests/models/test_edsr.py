"""EDSR: published sizes, shapes, tiling."""

from __future__ import annotations

import pytest
import torch

from aigc_cli.models.image.edsr import Config, Model, Options
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
    assert network.sample(2, Options(), condition={"low": low}).shape == (
        2, channels, 7 * scale, 5 * scale,
    )  # fmt: skip


def test_tiles_have_no_seams() -> None:
    """Below 1/255 of the range with the default overlap and the baseline's depth."""
    network = model(num_blocks=16, num_features=8)
    low = torch.rand(1, 3, 90, 70) * 2 - 1
    whole = network.sample(1, Options(tile=0), condition={"low": low})
    tiled = network.sample(1, Options(tile=64), condition={"low": low})
    assert (whole - tiled).abs().max() < 2 / 255  # [-1, 1] is 2 wide
    exact = network.sample(1, Options(tile=96, overlap=38), condition={"low": low})
    torch.testing.assert_close(exact, whole, rtol=0, atol=1e-5)


def test_self_ensemble_commutes_with_mirroring() -> None:
    network = model(num_blocks=1, num_features=4)
    low = torch.rand(1, 3, 12, 8) * 2 - 1
    options = Options(self_ensemble=True)
    one = network.sample(1, options, condition={"low": low.flip(-1)}).flip(-1)
    torch.testing.assert_close(one, network.sample(1, options, condition={"low": low}))
    plain = network.sample(1, Options(), condition={"low": low})
    assert not torch.allclose(one, plain)


def test_bf16_keeps_the_last_convolution_in_fp32() -> None:
    network = model(num_blocks=1, num_features=4)
    with torch.autocast("cpu", torch.bfloat16):
        high = network.net(torch.zeros(1, 3, 8, 8))
    assert high.dtype == torch.float32
