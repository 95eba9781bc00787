"""How much of the generated images is real, and how much of the real ones is generated.

Precision and recall: Kynkäänniemi et al., "Improved precision and recall metric for assessing
generative models", 2019, https://arxiv.org/abs/1904.06991 (k = 3). Density and coverage: Naeem et
al., "Reliable fidelity and diversity metrics for generative models", 2020,
https://arxiv.org/abs/2002.09797 (k = 5). All of them count memberships in balls around images,
each as large as the distance to the k-th nearest other image of its own set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._neighbors import distances, nearest_others
from aigc_cli.metrics.image._set import FeatureMetric

GROUP = ("precision", "recall", "density", "coverage")


class PRDC(NamedTuple):
    """All in [0, 1] but density, which may exceed 1; higher is better."""

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(real: Tensor, fake: Tensor, *, k: int = 3, k_density: int = 5) -> PRDC:
    """real (M, D), fake (N, D); precision and recall with `k`, density and coverage with
    `k_density`.

    * precision: share of fake images inside any real ball; recall: the other way round
    * density: number of real balls that a fake image lies in, over k
    * coverage: share of real balls that hold a fake image

    Raises:
        ValueError: a set has no more images than the larger k.
    """
    real, fake = real.double(), fake.double()
    most = max(k, k_density)
    real_radius = nearest_others(real, most).distance  # (M, most)
    fake_radius = nearest_others(fake, most).distance[:, k - 1]
    radius, wide = real_radius[:, k - 1], real_radius[:, k_density - 1]
    recalled, precise, inside = torch.zeros(len(real), dtype=torch.bool), 0.0, 0.0
    covered = torch.zeros(len(real), dtype=torch.bool)
    first = 0
    for block in distances(fake, real):  # (b, M)
        own = fake_radius[first : first + len(block), None]
        precise += float((block <= radius).any(1).sum())
        recalled |= (block <= own).any(0)
        inside += float((block <= wide).sum())
        covered |= (block <= wide).any(0)
        first += len(block)
    return PRDC(
        precise / len(fake),
        float(recalled.double().mean()),
        inside / (k_density * len(fake)),
        float(covered.double().mean()),
    )


class Balls(FeatureMetric):
    """Base of the four, which are found in one pass."""

    smallest = 6

    def found(self, side: Side) -> PRDC:
        return side.once("prdc", lambda: prdc(*side.pooled))
