"""Fréchet inception distance: Heusel et al., "GANs trained by a two time-scale update rule converge
to a local Nash equilibrium", 2017, https://arxiv.org/abs/1706.08500.
"""

from __future__ import annotations

from aigc_cli.metrics._frechet import fid
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._set import FeatureMetric


class Metric(FeatureMetric):
    of = "set"
    higher_is_better = False
    protocol = "Frechet distance of Gaussians over pooled features"

    def compute(self, side: Side) -> float:
        return fid(*side.pooled)

    def notes(self, side: Side) -> list[str]:
        real, fake = side.pooled
        few, D = min(len(real), len(fake)), fake.shape[1]
        if few >= D:
            return []
        return [
            f"fid: {few} images are fewer than the {D} features, so the value is too large; "
            "kid is not biased by the count"
        ]
