"""Peak signal-to-noise ratio: the formula, and the name of all metrics that use it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP = ("psnr_y", "psnr_rgb")


def psnr(preds: NDArray[Any], target: NDArray[Any], *, peak: float = 255.0) -> float:
    """10 log10(peak^2 / mean squared error) in dB; higher is better, equal arrays give inf.

    One mean over all pixels and channels. The value depends on the color space and on the border
    that was cut, so it is a result only together with both.

    Raises:
        ValueError: the shapes differ.
    """
    if preds.shape != target.shape:
        raise ValueError(f"shapes differ: {preds.shape} and {target.shape}")
    mse = float(np.mean((preds.astype(np.float64) - target) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)
