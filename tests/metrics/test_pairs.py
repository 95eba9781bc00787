"""PSNR, SSIM and luma against formulas written out, scikit-image and the literature."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from aigc_cli.errors import DataError, InputError
from aigc_cli.media.image import read_image
from aigc_cli.media.resize import modcrop, resize_bicubic
from aigc_cli.metrics.find import open_metrics, resolve
from aigc_cli.metrics.image._color import rgb_to_y
from aigc_cli.metrics.image.psnr import psnr
from aigc_cli.metrics.image.ssim import ssim


def pair(*shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image and a noisy copy, uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    base = 128 + 90 * np.sin(x / 7) * np.cos(y / 5)
    base = base if len(shape) == 2 else base[:, :, None] + rng.normal(0, 20, shape[2])
    noisy = base + rng.normal(0, 12, shape)
    return tuple(p.clip(0, 255).astype(np.uint8) for p in (noisy, base + np.zeros(shape)))


# -- luma ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rgb, y",
    [  # as MATLAB's rgb2ycbcr(uint8(...)) gives
        ((0, 0, 0), 16),
        ((255, 255, 255), 235),
        ((255, 0, 0), 81),
        ((0, 255, 0), 145),
        ((0, 0, 255), 41),
        ((128, 128, 128), 126),
    ],
)
def test_luma_of_known_colors(rgb: tuple[int, int, int], y: int) -> None:
    assert rgb_to_y(np.array([[rgb]], np.uint8)).item() == y


def test_gray_counts_as_equal_channels() -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(rgb_to_y(gray), rgb_to_y(gray.repeat(3, axis=2)))
    exact = 16 + gray[:, :, 0] * (219 / 255)
    np.testing.assert_allclose(rgb_to_y(gray, rounded=False), exact, atol=0.01)
    assert np.abs(rgb_to_y(gray) - exact).max() <= 0.51


def test_luma_of_other_types_is_refused() -> None:
    with pytest.raises(TypeError, match="uint16"):
        rgb_to_y(np.zeros((2, 2, 3), np.uint16))  # type: ignore[arg-type]


# -- PSNR ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(9, 7), (16, 20, 3)])
def test_psnr_equals_scikit_image(shape: tuple[int, ...]) -> None:
    preds, target = pair(*shape)
    expected = peak_signal_noise_ratio(target, preds, data_range=255)
    assert psnr(preds, target) == pytest.approx(expected, abs=1e-12)


def test_psnr_of_a_constant_error() -> None:
    target = np.full((5, 5), 100, np.uint8)
    assert psnr(target + np.uint8(1), target) == pytest.approx(20 * math.log10(255))
    assert psnr(target - np.uint8(1), target) == pytest.approx(20 * math.log10(255))
    assert psnr(target / 255 + 0.1, target / 255, peak=1.0) == pytest.approx(20)
    assert psnr(target, target) == math.inf


# -- SSIM ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(11, 11), (32, 47), (40, 33, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_ssim_equals_scikit_image(shape: tuple[int, ...], seed: int) -> None:
    preds, target = pair(*shape, seed=seed)
    expected = structural_similarity(
        preds,
        target,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=2 if len(shape) == 3 else None,
    )
    assert ssim(preds, target) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_one_window_is_its_formula() -> None:
    x, y = (p.astype(float) for p in pair(11, 11, seed=3))
    line = np.exp(-(np.arange(-5, 6) ** 2) / 4.5)
    w = np.outer(line, line) / line.sum() ** 2
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy = (w * (x - mx) ** 2).sum(), (w * (y - my) ** 2).sum()
    cov = (w * (x - mx) * (y - my)).sum()
    expected = (2 * mx * my + 6.5025) * (2 * cov + 58.5225)
    expected /= (mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225)
    assert ssim(x, y) == pytest.approx(expected, abs=1e-12)


def test_ssim_is_symmetric_bounded_and_one_for_equals() -> None:
    preds, target = pair(30, 30)
    assert ssim(preds, target) == pytest.approx(ssim(target, preds), abs=1e-15)
    assert ssim(target, target) == 1
    assert -1 <= ssim(255 - target, target) < 0 < ssim(preds, target) < 1
    assert ssim(preds / 255, target / 255, peak=1.0) == pytest.approx(ssim(preds, target))


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_shapes_must_agree(metric: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        metric(np.zeros((12, 12)), np.zeros((12, 13)))


def test_ssim_needs_one_whole_window() -> None:
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(np.zeros((12, 10)), np.zeros((12, 10)))


# -- by name ---------------------------------------------------------------------------------------


def opened(*names: str, border: int = 0) -> list[Any]:
    return list(open_metrics(names, defaults={"border": border}))


def test_names_and_groups_resolve_in_order_and_once() -> None:
    names = resolve(["ssim", "psnr_y", "psnr", "dists"])
    assert names == ["ssim_y", "ssim_rgb", "psnr_y", "psnr_rgb", "dists"]
    assert resolve([]) == []


def test_unknown_names_name_their_neighbor() -> None:
    with pytest.raises(InputError) as caught:
        resolve(["psnr_y", "psrn_y"])
    assert (caught.value.message, caught.value.hint) == (
        "unknown metric 'psrn_y'",
        "did you mean 'psnr_y'?",
    )


def test_every_number_has_its_protocol() -> None:
    [y], [rgb] = opened("psnr_y", border=2), opened("psnr_rgb", border=4)
    assert y.describe() == "Y of MATLAB BT.601 (16-235, rounded), 8 bit, border 2, peak 255"
    assert rgb.describe() == "RGB, 8 bit, border 4, peak 255"
    for metric in opened("psnr", "ssim", "lpips", "dists", "perceptual", "auc", border=3):
        assert "8 bit" in metric.describe()
        assert ("border 3" in metric.describe()) == metric.name.startswith(("psnr", "ssim"))
        assert "{" not in metric.describe()


def test_border_is_cut_on_every_side() -> None:
    preds, target = pair(40, 30, 3)
    spoilt = preds.copy()
    spoilt[:4], spoilt[-4:], spoilt[:, :4], spoilt[:, -4:] = 0, 0, 0, 0
    inside = slice(4, -4)
    for name in ("psnr_y", "psnr_rgb", "ssim_y", "ssim_rgb"):
        ([cut], [less], [none]) = (opened(name, border=n) for n in (4, 3, 0))
        whole = cut.compute(preds, target)
        assert cut.compute(spoilt, target) == whole
        assert less.compute(spoilt, target) < whole
        assert none.compute(preds[inside, inside], target[inside, inside]) == whole
        assert list(cut.variants()) == ["border 0"]
        assert cut.variants()["border 0"].compute(spoilt, target) < whole
        assert none.variants() == {}
    y = [rgb_to_y(p)[4:-4, 4:-4] for p in (preds, target)]
    assert opened("psnr_y", border=4)[0].compute(preds, target) == psnr(*y)
    assert opened("ssim_y", border=4)[0].compute(preds, target) == ssim(*y)


def test_gray_and_color_may_be_compared() -> None:
    preds, target = pair(20, 20, 3)
    gray = target[:, :, :1]
    for metric in opened("psnr", "ssim", border=1):
        color = metric.compute(preds, gray.repeat(3, axis=2))
        assert metric.compute(preds, gray) == color


def test_images_that_cannot_be_compared_are_told() -> None:
    a, b = np.zeros((30, 20, 3), np.uint8), np.zeros((30, 21, 3), np.uint8)
    with pytest.raises(DataError, match=r"^20 x 30 pixels, but its reference has 21 x 30$"):
        opened("psnr_y", border=2)[0].compute(a, b)
    with pytest.raises(DataError, match=r"^20 x 30 pixels, ssim_y needs 21 x 21 or more$"):
        opened("ssim_y", border=5)[0].compute(a, a)
    with pytest.raises(DataError, match="psnr_rgb needs 21 x 21"):
        opened("psnr_rgb", border=10)[0].compute(a, a)


@pytest.mark.parametrize(
    "scale, db, similarity", [(2, 33.65, 0.9299), (3, 30.39, 0.8682), (4, 28.42, 0.8104)]
)
def test_bicubic_row_of_the_literature(
    shared_data: Callable[[str], Path], scale: int, db: float, similarity: float
) -> None:
    """Set5 in Dong et al. 2016 and Kim et al. 2016, which resized doubles in MATLAB."""
    rows = []
    for path in sorted(shared_data("set5").glob("*.png")):
        target = modcrop(read_image(path).pixels, scale)
        preds = resize_bicubic(resize_bicubic(target, scale=1 / scale), scale=scale)
        metrics = opened("psnr_y", "ssim_y", border=scale)
        rows.append([m.compute(preds, target) for m in metrics])
    assert len(rows) == 5
    assert np.mean(rows, axis=0)[0] == pytest.approx(db, abs=0.01)
    assert np.mean(rows, axis=0)[1] == pytest.approx(similarity, abs=0.002)
