"""SSIM as the mean of the channels."""

from __future__ import annotations

from aigc_cli.metrics.image._pair import Bordered, Pixels
from aigc_cli.metrics.image.ssim import ssim


class Metric(Bordered):
    of = "pair"
    higher_is_better = True
    protocol = (
        "RGB, 8 bit, border {border}, mean of channels, "
        "11x11 Gaussian window (sigma 1.5), valid area, K1 0.01, K2 0.03"
    )
    smallest = 11

    def formula(self, preds: Pixels, target: Pixels) -> float:
        return ssim(preds, target)
