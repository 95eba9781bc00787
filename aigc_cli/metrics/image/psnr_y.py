"""PSNR of luma, as the classic tables of super-resolution have it."""

from __future__ import annotations

from aigc_cli.metrics.image._color import rgb_to_y
from aigc_cli.metrics.image._pair import Bordered, Pixels
from aigc_cli.metrics.image.psnr import psnr


class Metric(Bordered):
    of = "pair"
    higher_is_better = True
    unit = "dB"
    protocol = "Y of MATLAB BT.601 (16-235, rounded), 8 bit, border {border}, peak 255"

    def formula(self, preds: Pixels, target: Pixels) -> float:
        return psnr(rgb_to_y(preds), rgb_to_y(target))
