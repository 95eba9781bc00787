"""Structural similarity: Wang et al., "Image quality assessment: from error visibility to
structural similarity", 2004, https://doi.org/10.1109/TIP.2003.819861
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

GROUP = ("ssim_y", "ssim_rgb")
RADIUS = 5
_WINDOW = np.exp(-(np.arange(-RADIUS, RADIUS + 1) ** 2) / (2 * 1.5**2))
_WINDOW /= _WINDOW.sum()  # 11 x 11 Gaussian, sigma 1.5, as the product of two lines


def ssim(preds: NDArray[Any], target: NDArray[Any], *, peak: float = 255.0) -> float:
    """Mean SSIM of (H, W) or (H, W, C), in [-1, 1]; higher is better, equal arrays give 1.

    Over windows that lie wholly inside (so H, W >= 11), then over channels; K1 = 0.01, K2 = 0.03,
    variances of the population. This is the authors' code without its reduction of large images,
    and scikit-image with gaussian_weights=True, sigma=1.5, use_sample_covariance=False.

    Raises:
        ValueError: the shapes differ, or a side is shorter than 11.
    """
    if preds.shape != target.shape:
        raise ValueError(f"shapes differ: {preds.shape} and {target.shape}")
    if min(preds.shape[:2]) < 2 * RADIUS + 1:
        raise ValueError(f"needs 11 x 11 pixels or more, not {preds.shape[:2]}")
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    x, y = preds.astype(np.float64), target.astype(np.float64)
    mu_x, mu_y = _windowed(x), _windowed(y)
    squares = mu_x**2 + mu_y**2
    variances = _windowed(x**2 + y**2) - squares  # sigma_x^2 + sigma_y^2
    covariance = _windowed(x * y) - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + c1) / (squares + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return float(np.mean(luminance * structure))


def _windowed(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian mean around every pixel whose window lies inside."""
    for axis in (0, 1):
        x = np.einsum("...k,k", sliding_window_view(x, 2 * RADIUS + 1, axis), _WINDOW)
    return x
