"""Area under the error curve and colorfulness against closed forms and formulas written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aigc_cli.metrics.find import open_metrics
from aigc_cli.metrics.image.auc import auc
from aigc_cli.metrics.image.colorfulness import colorfulness


def plane(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 40


@pytest.mark.parametrize("error", [0.0, 7.5, 75.0, 150.0, 400.0])
def test_auc_of_a_constant_error(error: float) -> None:
    target = plane(0, 2, 2, 5, 4)
    shift = error * torch.tensor([0.6, -0.8]).view(1, 2, 1, 1)
    expected = 100 * max(0.0, 1 - error / 150)
    assert auc(target + shift, target).tolist() == pytest.approx([expected] * 2, abs=1e-4)


def test_auc_is_the_integral_of_the_curve() -> None:
    preds, target = plane(1, 3, 2, 16, 16), plane(2, 3, 2, 16, 16)
    error = (preds - target).norm(dim=1).flatten(1).double()
    d = torch.linspace(0, 150, 30_001, dtype=torch.float64)
    within = 100 * torch.searchsorted(error.sort().values, d.expand(3, -1).contiguous()) / 256
    expected = torch.trapezoid(within.double(), d) / 150
    torch.testing.assert_close(auc(preds, target).double(), expected, rtol=0, atol=0.01)


def test_weights_count_pixels_relative_to_each_other() -> None:
    target = torch.zeros(1, 2, 1, 2)
    preds = torch.tensor([[30.0, 0.0], [0.0, 0.0]]).view(1, 2, 1, 2)  # errors 30 and 0
    weight = torch.tensor([[[3.0, 1.0]]])
    assert auc(preds, target, weight).item() == pytest.approx((3 * 80 + 1 * 100) / 4)
    torch.testing.assert_close(auc(preds, target, 7 * weight), auc(preds, target, weight))
    torch.testing.assert_close(auc(preds, target, torch.ones(1, 1, 2)), auc(preds, target))


def test_colorfulness_is_the_published_formula() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.float64)
    R, G, B = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    rg, yb = R - G, 0.5 * (R + G) - B
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    image = torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]
    assert colorfulness(image).item() == pytest.approx(expected, rel=1e-5)


def test_gray_is_not_colorful_and_pure_red_is_known() -> None:
    assert colorfulness(plane(3, 2, 1, 4, 4).clamp(-1, 1).expand(-1, 3, -1, -1)).abs().max() < 1e-3
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert colorfulness(red).item() == pytest.approx(0.3 * 255 * np.hypot(1, 0.5), rel=1e-6)


def test_one_is_a_metric_of_pairs_and_one_of_the_image_alone() -> None:
    gray = np.full((4, 4, 1), 120, np.uint8)
    red = np.broadcast_to(np.array([200, 30, 30], np.uint8), (4, 4, 3))
    near, colorful = open_metrics(["auc", "colorfulness"])
    assert near.compute(red, red) == pytest.approx(100)
    assert near.compute(gray, red) < 60
    assert colorful.compute(gray) == pytest.approx(0, abs=1e-4)
    assert colorful.compute(red) > 50
    assert not colorful.reference
