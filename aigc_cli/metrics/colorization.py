"""Measures of a coloured picture: nearness of its colours, and how colourful it is."""

from __future__ import annotations

import torch
from torch import Tensor

FARTHEST = 150.0
"""Distance in the ab plane at which the curve of `auc` ends."""


def auc(preds: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Area under the curve "per cent of the pixels within distance d in the ab plane", d from 0 to
    150, divided by 150: (B,) in [0, 100], higher is better.

    preds, target: (B, 2, H, W); weight: (B, H, W) >= 0, relative to the other pixels of the
    picture, such as the inverse probability of the true colour for the rebalanced curve. Zhang,
    Isola, Efros 2016, section 3.1. The area needs no steps: a pixel at distance e adds to it from
    e on.
    """
    error = (preds - target).square().sum(1).sqrt()  # (B, H, W)
    score = 100 * (1 - error / FARTHEST).clamp_min(0)
    if weight is None:
        return score.mean((1, 2))
    return (weight * score).sum((1, 2)) / weight.sum((1, 2))


def colourfulness(images: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [-1, 1] -> (B,), 0 for gray, about 15 slightly and 80 highly colourful.

    Hasler and Suesstrunk, "Measuring colourfulness in natural images", 2003: spread and mean of
    two opponent channels of the 0 to 255 levels.
    """
    R, G, B = (127.5 * (images.float() + 1)).unbind(1)
    opponents = torch.stack([R - G, (R + G) / 2 - B], dim=1).flatten(2)  # (B, 2, H W)
    spread = opponents.var(-1, unbiased=False).sum(1).sqrt()
    mean = opponents.mean(-1).square().sum(1).sqrt()
    return spread + 0.3 * mean
