"""Lab against scikit-image, and its landmarks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.color import lab2rgb, rgb2lab

from aigc_cli.media.lab import lab_to_rgb, rgb_to_lab


def every_17th_level() -> torch.Tensor:
    """(3, 256, 16): all colors of 16 levels a channel, black and white among them, in [-1, 1]."""
    levels = torch.linspace(-1, 1, 16)
    return torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).reshape(3, 256, 16)


def test_rgb_to_lab_equals_scikit_image() -> None:
    rgb = every_17th_level()
    expected = rgb2lab((rgb.permute(1, 2, 0).double().numpy() + 1) / 2)
    np.testing.assert_allclose(rgb_to_lab(rgb).permute(1, 2, 0), expected, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB:UserWarning")  # of scikit-image
def test_lab_to_rgb_equals_scikit_image_in_and_out_of_gamut() -> None:
    L, a, b = np.meshgrid(np.arange(0, 101, 5), np.arange(-100, 101, 8), np.arange(-110, 101, 10))
    lab = np.stack([L, a, b], axis=-1).reshape(-1, 21, 3).astype(np.float64)
    made = lab_to_rgb(torch.from_numpy(lab).permute(2, 0, 1))
    np.testing.assert_allclose((made.permute(1, 2, 0) + 1) / 2, lab2rgb(lab), rtol=0, atol=1e-4)


def test_there_and_back_is_the_same_color_in_any_batch() -> None:
    rgb = every_17th_level()
    batch = torch.stack([rgb, rgb.flip(1)])
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(batch)), batch, rtol=0, atol=2e-5)
    torch.testing.assert_close(rgb_to_lab(batch)[0], rgb_to_lab(rgb))


def test_gray_has_no_chroma_and_white_the_lightness_100() -> None:
    gray = torch.linspace(-1, 1, 9).expand(3, 1, 9)
    lab = rgb_to_lab(gray)
    assert lab[1:].abs().max() < 0.01
    assert lab[0, 0, 0] == pytest.approx(0, abs=1e-4)
    assert lab[0, 0, -1] == pytest.approx(100, abs=1e-4)
    assert (lab[0].diff() > 0).all()
