"""Nearest neighbors among features, exactly, a block of rows at a time; and what they say about
copies of training images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CELLS = 1 << 24  # of the matrix of distances held at once
QUANTILE = 0.05


@dataclass(frozen=True)
class Nearest:
    """distance and index (N, k), nearest first."""

    distance: Tensor
    index: Tensor


@dataclass(frozen=True)
class Copies:
    """share of the images nearer to training than `threshold`, their `distance` (N,) to it."""

    share: float
    threshold: float
    distance: Tensor
    index: Tensor


def distances(queries: Tensor, base: Tensor) -> Iterator[Tensor]:
    """Euclidean distances of queries (N, D) to base (M, D) as blocks of rows (b, M), in order."""
    for rows in queries.split(max(1, CELLS // max(1, len(base)))):
        yield torch.cdist(rows, base)


def nearest(queries: Tensor, base: Tensor, k: int = 1) -> Nearest:
    """The k rows of base (M, D) nearest to each of queries (N, D).

    Raises:
        ValueError: k is more than M.
    """
    return _join(block.topk(k, largest=False) for block in _checked(queries, base, k))


def nearest_others(features: Tensor, k: int = 1) -> Nearest:
    """The k other rows nearest to each of features (N, D); a row is not its own neighbor.

    Raises:
        ValueError: k is more than N - 1.
    """
    found, first = [], 0
    for block in _checked(features, features, k + 1):
        own = torch.arange(len(block))
        block[own, first + own] = torch.inf
        found.append(block.topk(k, largest=False))
        first += len(block)
    return _join(iter(found))


def copies(train: Tensor, fake: Tensor, *, k: int = 1, quantile: float = QUANTILE) -> Copies:
    """How many of `fake` (N, D) are nearer to a row of `train` (M, D) than real images are.

    The threshold is the distance below which only a `quantile` of the training images have
    another training image: about that share is what fresh real images have, more means copies.
    distance and index (N, k) are of the nearest training images. M >= 2.
    """
    threshold = float(nearest_others(train).distance[:, 0].quantile(quantile))
    found = nearest(fake, train, min(k, len(train)))
    distance, index = found.distance, found.index
    share = float((distance[:, 0] < threshold).double().mean())
    return Copies(share, threshold, distance, index)


def _checked(queries: Tensor, base: Tensor, k: int) -> Iterator[Tensor]:
    if len(base) < k:
        raise ValueError(f"{len(base)} features have no {k} nearest")
    return distances(queries.double(), base.double())


def _join(parts: Iterator[tuple[Tensor, Tensor]]) -> Nearest:
    values, indexes = zip(*parts, strict=True)
    return Nearest(torch.cat(values), torch.cat(indexes))
