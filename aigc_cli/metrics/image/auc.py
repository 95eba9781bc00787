"""How near the colors of an image are: the area under the curve of Zhang, Isola, Efros 2016."""

from __future__ import annotations

from torch import Tensor

from aigc_cli.media.image import to_tensor
from aigc_cli.media.lab import rgb_to_lab
from aigc_cli.metrics.image._pair import ImagePair, Pixels

FARTHEST = 150.0
"""Distance in the ab plane at which the curve of `auc` ends."""


def auc(preds: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Area under the curve "per cent of the pixels within distance d in the ab plane", d from 0 to
    150, divided by 150: (B,) in [0, 100], higher is better.

    preds, target: (B, 2, H, W); weight: (B, H, W) >= 0, relative to the other pixels of the
    image, such as the inverse probability of the true color for the rebalanced curve. Zhang,
    Isola, Efros 2016, section 3.1. The area needs no steps: a pixel at distance e adds to it from
    e on.
    """
    error = (preds - target).square().sum(1).sqrt()  # (B, H, W)
    score = 100 * (1 - error / FARTHEST).clamp_min(0)
    if weight is None:
        return score.mean((1, 2))
    return (weight * score).sum((1, 2)) / weight.sum((1, 2))


class Metric(ImagePair):
    of = "pair"
    higher_is_better = True
    unit = "%"
    protocol = "area under the share of pixels within d in ab of Lab (D65), d to 150, 8 bit"

    def formula(self, preds: Pixels, target: Pixels) -> float:
        return float(auc(*(rgb_to_lab(to_tensor(p))[None, 1:] for p in (preds, target))))
