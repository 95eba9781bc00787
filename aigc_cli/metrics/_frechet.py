"""The Fréchet distance of the normal distributions that features are taken for."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Gaussian(NamedTuple):
    """The normal distribution that features are taken for: mean (D,), cov (D, D), float64."""

    mean: Tensor
    cov: Tensor


def gaussian(features: Tensor) -> Gaussian:
    """Mean and unbiased covariance of features (N, D), N >= 2.

    Raises:
        ValueError: fewer than two rows.
    """
    if len(features) < 2:
        raise ValueError(f"a covariance needs 2 or more features, not {len(features)}")
    features = features.double()
    mean = features.mean(0)
    centered = features - mean
    return Gaussian(mean, centered.T @ centered / (len(features) - 1))


def frechet_distance(real: Gaussian, fake: Gaussian) -> float:
    """|mu - m|^2 + tr(S + C - 2 (S C)^(1/2)); >= 0, and 0 is best.

    tr (S C)^(1/2) is the sum of the roots of the eigenvalues of S^(1/2) C S^(1/2), which is
    symmetric: no complex numbers and no small diagonal to add where S or C is singular.
    """
    (mu, S), (m, C) = real, fake
    values, vectors = torch.linalg.eigh(S)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T  # S^(1/2)
    middle = torch.linalg.eigvalsh(root @ C @ root).clamp(min=0).sqrt().sum()
    distance = (mu - m).square().sum() + S.trace() + C.trace() - 2 * middle
    return max(0.0, float(distance))  # rounding may lead below 0


def fid(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance of features (M, D) and (N, D).

    With N not well above D it is too large, and the more so the smaller N: compare only values of
    equal N.
    """
    return frechet_distance(gaussian(real), gaussian(fake))
