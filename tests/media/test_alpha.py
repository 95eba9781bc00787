"""Transparency: hidden colors never count, and what is blended is unblended once."""

from __future__ import annotations

import numpy as np
import pytest

from aigc_cli.media import alpha
from aigc_cli.media.image import Raster


def half_hidden(*, hidden: int, bits: int = 8) -> tuple[alpha.Floats, alpha.Floats]:
    """A red square, opaque inside and half transparent at its edge, on `hidden` of all colors."""
    top = 2**bits - 1
    pixels = np.full((21, 30, 3), hidden, np.uint8 if bits == 8 else np.uint16)
    opacity = np.zeros((21, 30), pixels.dtype)
    pixels[6:15, 8:20] = (top, top // 4, 0)
    opacity[6:15, 8:20], opacity[7:14, 9:19] = top // 2, top
    return alpha.unit(pixels), alpha.unit(opacity)


@pytest.mark.parametrize("bits", [8, 16])
def test_hidden_colors_never_count(bits: int) -> None:
    made = []
    for hidden in (0, 2**bits - 1, 77):
        colors, opacity = half_hidden(hidden=hidden, bits=bits)
        background = alpha.surroundings(colors, opacity)
        made.append((background, alpha.blend(colors, opacity, background)))
    for background, seen in made[1:]:
        np.testing.assert_array_equal(background, made[0][0])
        np.testing.assert_array_equal(seen, made[0][1])


def test_one_color_has_no_outline_over_its_surroundings() -> None:
    colors, opacity = half_hidden(hidden=0)
    seen = alpha.blend(colors, opacity, alpha.surroundings(colors, opacity))
    np.testing.assert_allclose(seen, np.broadcast_to(colors[10, 10], seen.shape), atol=1e-6)


def test_surroundings_of_nothing_are_white() -> None:
    colors = np.zeros((5, 1, 3), np.float32)
    assert (alpha.surroundings(colors, colors[..., :1]) == 1).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("background", ["white", "surroundings"])
def test_blended_once_and_unblended_once_is_the_same(dtype: type, background: str) -> None:
    random = np.random.default_rng(0)
    top = np.iinfo(dtype).max
    pixels = random.integers(0, top, (33, 20, 3), dtype, endpoint=True)
    opacity = random.integers(top // 16, top, (33, 20), dtype, endpoint=True)
    pixels[0, 0], opacity[0, 0] = 0, top // 2 + 1  # (0, 0, 0, 128), which became (125, 128, 121)
    colors, a = alpha.unit(pixels), alpha.unit(opacity)
    behind = alpha.WHITE if background == "white" else alpha.surroundings(colors, a)
    again = alpha.levels(alpha.unblend(alpha.blend(colors, a, behind), a, behind), dtype)
    np.testing.assert_array_equal(again, pixels)


def test_over_white() -> None:
    pixels = np.zeros((1, 3, 1), np.uint8)
    picture = Raster(pixels, np.array([[0, 51, 255]], np.uint8))
    np.testing.assert_allclose(alpha.over_white(picture)[0, :, 0], [1, 0.8, 0])


def test_what_a_format_cannot_hold_is_flattened_and_said() -> None:
    pixels = np.zeros((2, 3, 3), np.uint16)
    deep = Raster(pixels, np.full((2, 3), 65535 // 5 * 1, np.uint16))
    flat, lost = alpha.fitting(deep, "jpg")
    assert flat.alpha is None
    assert flat.pixels.tolist() == [[[204] * 3] * 3] * 2
    assert lost == "transparency, which lies over white now and 8 of 16 bits"
    assert alpha.fitting(deep, "webp")[1] == "8 of 16 bits"
    assert alpha.fitting(deep, "png") == (deep, None)
