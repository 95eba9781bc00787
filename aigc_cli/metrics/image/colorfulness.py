"""How colorful an image is by itself: Hasler and Suesstrunk, 2003."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aigc_cli.media.image import to_tensor
from aigc_cli.metrics._metric import ItemMetric
from aigc_cli.metrics.image._pair import Pixels


def colorfulness(images: Tensor) -> Tensor:
    """sRGB (B, 3, H, W) in [-1, 1] -> (B,), 0 for gray, about 15 slightly and 80 highly colorful.

    Hasler and Suesstrunk, "Measuring colorfulness in natural images", 2003: spread and mean of
    two opponent channels of the 0 to 255 levels.
    """
    R, G, B = (127.5 * (images.float() + 1)).unbind(1)
    opponents = torch.stack([R - G, (R + G) / 2 - B], dim=1).flatten(2)  # (B, 2, H W)
    spread = opponents.var(-1, unbiased=False).sum(1).sqrt()
    mean = opponents.mean(-1).square().sum(1).sqrt()
    return spread + 0.3 * mean


class Metric(ItemMetric):
    of = "item"
    higher_is_better = True
    protocol = "Hasler and Suesstrunk 2003, of the made image alone, RGB, 8 bit"

    def compute(self, thing: Pixels) -> float:
        rgb = np.broadcast_to(thing, (*thing.shape[:2], 3))
        return float(colorfulness(to_tensor(rgb)[None]))
