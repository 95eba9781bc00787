"""SSIM of luma."""

from __future__ import annotations

from aigc_cli.metrics.image._color import rgb_to_y
from aigc_cli.metrics.image._pair import Bordered, Pixels
from aigc_cli.metrics.image.ssim import ssim


class Metric(Bordered):
    of = "pair"
    higher_is_better = True
    protocol = (
        "Y of MATLAB BT.601 (16-235, rounded), 8 bit, border {border}, "
        "11x11 Gaussian window (sigma 1.5), valid area, K1 0.01, K2 0.03"
    )
    smallest = 11

    def formula(self, preds: Pixels, target: Pixels) -> float:
        return ssim(rgb_to_y(preds), rgb_to_y(target))
