"""PSNR over all pixels and channels."""

from __future__ import annotations

from aigc_cli.metrics.image._pair import Bordered, Pixels
from aigc_cli.metrics.image.psnr import psnr


class Metric(Bordered):
    of = "pair"
    higher_is_better = True
    unit = "dB"
    protocol = "RGB, 8 bit, border {border}, peak 255"

    def formula(self, preds: Pixels, target: Pixels) -> float:
        return psnr(preds, target)
