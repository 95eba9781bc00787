"""Kernel inception distance: Binkowski et al., "Demystifying MMD GANs", 2018,
https://arxiv.org/abs/1801.01401.

The squared maximum mean discrepancy of two sets of features under the kernel
k(x, y) = (x.y / D + 1)^3, estimated without bias: its expectation does not depend on the number of
images, which that of FID does. 0 is best; the estimate may be slightly negative.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._set import FeatureMetric

ROWS = 4096  # of the kernel matrix held at once


class KID(NamedTuple):
    """Mean and standard deviation over subsets."""

    mean: float
    std: float


def kid_block(real: Tensor, fake: Tensor) -> Tensor:
    """Unbiased MMD^2 of all rows at once: real (M, D), fake (N, D) -> scalar; M, N >= 2.

    Differentiable, in the precision of its arguments.

    Raises:
        ValueError: fewer than two rows, or features of different length.
    """
    (M, D), (N, other) = real.shape, fake.shape
    if other != D:
        raise ValueError(f"real features have {D} numbers, fake ones {other}")
    if min(M, N) < 2:
        raise ValueError(f"{M} real and {N} fake features: both need 2 or more")
    within_real = (_kernel_sum(real, real) - _kernel(real, real, paired=True).sum()) / (M * (M - 1))
    within_fake = (_kernel_sum(fake, fake) - _kernel(fake, fake, paired=True).sum()) / (N * (N - 1))
    return within_real + within_fake - 2 * _kernel_sum(real, fake) / (M * N)


def kid(
    real: Tensor, fake: Tensor, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> KID:
    """Mean over random subsets of both sides, as it is usually published: 100 subsets of 1000.

    real (M, D), fake (N, D). Subsets are drawn without repetition inside each; a side with fewer
    rows than `subset_size` lowers it for both.
    """
    size = min(subset_size, len(real), len(fake))
    generator = torch.Generator().manual_seed(seed)
    real, fake = real.double(), fake.double()

    def some(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features), generator=generator)[:size]]

    values = torch.stack([kid_block(some(real), some(fake)) for _ in range(subsets)])
    return KID(float(values.mean()), float(values.std(correction=0)))


def _kernel(x: Tensor, y: Tensor, *, paired: bool = False) -> Tensor:
    """(M, D), (N, D) -> (M, N); with `paired` only its diagonal."""
    dot = (x * y).sum(1) if paired else x @ y.T
    return (dot / x.shape[1] + 1) ** 3


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([_kernel(rows, y).sum() for rows in x.split(ROWS)]).sum()


class Metric(FeatureMetric):
    of = "set"
    higher_is_better = False
    protocol = "unbiased MMD^2, cubic kernel, mean of 100 subsets of up to 1000"

    def compute(self, side: Side) -> tuple[float, float]:
        return kid(*side.pooled)
