"""How different generated images are from each other, by LPIPS."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from aigc_cli.metrics._metric import SetMetric
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._diversity import mean_distance
from aigc_cli.metrics.image._set import first_images
from aigc_cli.metrics.image.lpips import network

SIDE = 64  # smaller images are upscaled to it


class Metric(SetMetric):
    of = "set"
    higher_is_better = True
    protocol = "mean LPIPS 0.1 (AlexNet) of up to 1000 pairs of the first 200"
    reference = False

    def prepare(self, device: str = "cpu") -> None:
        network()

    def compute(self, side: Side) -> float:
        images = first_images(side)
        batch = torch.stack(images).expand(-1, 3, -1, -1)
        if min(batch.shape[-2:]) < SIDE:
            batch = F.interpolate(batch, (SIDE, SIDE), mode="bilinear")
        with torch.inference_mode():
            return mean_distance(batch, network())
