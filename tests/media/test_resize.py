"""`resize_bicubic` against the definition written out, closed forms, and the published Set5 row."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aigc_cli.media.image import read_image
from aigc_cli.media.resize import modcrop, resize_bicubic


def keys(x: float) -> float:
    """The cubic kernel as printed by Keys, 1981, equation 15."""
    s = abs(x)
    if s < 1:
        return 3 / 2 * s**3 - 5 / 2 * s**2 + 1
    return -1 / 2 * s**3 + 5 / 2 * s**2 - 4 * s + 2 if s < 2 else 0.0


def brute_force(line: list[float], length: int, scale: float) -> list[float]:
    """One axis, sample by sample, over a line mirrored without end."""
    n, shrink = len(line), min(scale, 1.0)
    out = []
    for i in range(length):
        u = (i + 0.5) / scale - 0.5
        total = weight_sum = 0.0
        for j in range(math.floor(u - 2 / shrink) - 2, math.ceil(u + 2 / shrink) + 3):
            mirrored = j % (2 * n)
            weight = keys(shrink * (u - j))
            total += weight * line[min(mirrored, 2 * n - 1 - mirrored)]
            weight_sum += weight
        out.append(total / weight_sum)
    return out


@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.5, 0.7, 1.0, 1.3, 2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 7), (2, 3), (11, 8), (40, 37)])
def test_equals_the_definition_written_out(scale: float, shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=shape)
    H, W = (math.ceil(n * scale - 1e-9) for n in shape)
    tall = np.array([brute_force(list(column), H, scale) for column in x.T]).T
    expected = np.array([brute_force(list(row), W, scale) for row in tall])
    np.testing.assert_allclose(resize_bicubic(x, scale=scale), expected, atol=1e-12)


def test_doubling_has_the_weights_known_in_closed_form() -> None:
    impulse = np.zeros((1, 9))
    impulse[0, 4] = 128
    # Keys' kernel at distances 7/4, 5/4, 3/4, 1/4, 1/4 ... times 128
    wave = [-3, -9, 29, 111, 111, 29, -9, -3]
    out = resize_bicubic(impulse, size=(1, 18))
    np.testing.assert_allclose(out[0], [0] * 5 + wave + [0] * 5, atol=1e-12)


def test_halving_has_the_weights_known_in_closed_form() -> None:
    impulses = np.eye(16)
    rows = resize_bicubic(impulses, size=(8, 16))  # row i: what output i takes from each input
    expected = np.zeros(16)
    expected[4:12] = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    np.testing.assert_allclose(rows[4], np.roll(expected, 1), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.25, 1 / 3, 2, 3.5])
def test_constant_pictures_and_types_are_kept(dtype: type[Any], scale: float) -> None:
    x = np.full((13, 9, 3), 201, dtype)
    out = resize_bicubic(x, scale=scale)
    assert out.dtype == dtype
    assert out.shape == (math.ceil(13 * scale), math.ceil(9 * scale), 3)
    np.testing.assert_allclose(out, 201, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 2, 3])
def test_ramps_stay_ramps_in_the_interior(scale: float) -> None:
    ramp = np.arange(40.0)[None].repeat(12, axis=0)
    out = resize_bicubic(ramp, scale=scale)
    expected = (np.arange(40 * scale) + 0.5) / scale - 0.5
    margin = math.ceil(4 * max(scale, 1))
    np.testing.assert_allclose(out[3, margin:-margin], expected[margin:-margin], atol=1e-12)


def test_integers_are_rounded_half_up_and_clipped() -> None:
    edge = np.array([[0, 0, 0, 255, 255, 255]], np.uint8).repeat(6, axis=0)
    exact = resize_bicubic(edge.astype(np.float64), scale=2)
    assert exact.min() < 0
    assert exact.max() > 255
    np.testing.assert_array_equal(
        resize_bicubic(edge, scale=2), np.floor(exact.clip(0, 255) + 0.5).astype(np.uint8)
    )
    half = np.array([[0, 1], [0, 1]], np.uint8)  # the mean, 0.5, is rounded to 1
    assert resize_bicubic(half, size=(1, 1)).item() == 1


def test_channels_are_independent_and_axes_swap() -> None:
    x = np.random.default_rng(1).integers(0, 256, (23, 31, 3)).astype(np.uint8)
    out = resize_bicubic(x, scale=0.5)
    for c in range(3):
        np.testing.assert_array_equal(resize_bicubic(x[:, :, c], scale=0.5), out[:, :, c])
    swapped = resize_bicubic(x.swapaxes(0, 1), scale=0.5).swapaxes(0, 1)
    np.testing.assert_array_equal(swapped, out)


def test_size_may_shrink_one_axis_and_stretch_the_other() -> None:
    x = np.random.default_rng(2).normal(size=(12, 10))
    expected = np.array([brute_force(list(row), 25, 2.5) for row in x])
    expected = np.array([brute_force(list(column), 5, 5 / 12) for column in expected.T]).T
    np.testing.assert_allclose(resize_bicubic(x, size=(5, 25)), expected, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"scale": 2, "size": (4, 4)}, {"size": (0, 4)}])
def test_impossible_sizes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        resize_bicubic(np.zeros((4, 4)), **options)


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_modcrop_keeps_the_upper_left(scale: int) -> None:
    x = np.arange(11 * 7 * 3).reshape(11, 7, 3)
    out = modcrop(x, scale)
    assert out.shape == (11 // scale * scale, 7 // scale * scale, 3)
    np.testing.assert_array_equal(out, x[: out.shape[0], : out.shape[1]])


@pytest.mark.parametrize("scale, published", [(2, 33.65), (3, 30.39), (4, 28.42)])
def test_set5_row_of_the_literature(
    shared_data: Callable[[str], Path], scale: int, published: float
) -> None:
    """PSNR of bicubic on Y (33.66, 30.39 and 28.42 in print, from MATLAB's doubles)."""
    values = []
    for path in sorted(shared_data("set5").glob("*.png")):
        high = modcrop(read_image(path).as_channels(3).pixels, scale)
        low = resize_bicubic(high, scale=1 / scale)
        y = [luma(p)[scale:-scale, scale:-scale] for p in (resize_bicubic(low, scale=scale), high)]
        values.append(10 * np.log10(255**2 / np.mean((y[0] - y[1]) ** 2)))
    assert len(values) == 5
    assert np.mean(values) == pytest.approx(published, abs=0.01)


def luma(rgb: np.ndarray) -> np.ndarray:
    """MATLAB's rgb2ycbcr, first channel."""
    return np.floor(16.5 + rgb @ np.array([65.481, 128.553, 24.966]) / 255)
