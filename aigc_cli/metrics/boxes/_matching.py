"""Which found box is which real one, and the average precision that follows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RECALLS = np.linspace(0, 1, 101)


def overlaps(a: Floats, b: Floats) -> Floats:
    """Intersection over union of boxes (N, 4) and (M, 4), (N, M)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (a, b)]
    return np.asarray(shared / np.maximum(areas[0][:, None] + areas[1] - shared, 1e-12))


def hits(found: Floats, real: Floats, least: float) -> NDArray[np.bool_]:
    """Whether each found box (N, 4), the surest first, is a real one (M, 4): that of those not yet
    taken which it overlaps most, where that is at least `least`.
    """
    hit = np.zeros(len(found), dtype=bool)
    if not len(real):
        return hit
    shared = overlaps(found, real)
    for i, row in enumerate(shared):
        best = int(row.argmax())
        if row[best] >= least:
            hit[i] = True
            shared[:, best] = -1
    return hit


def average_precision(scores: Floats, hit: NDArray[np.bool_], count: int) -> float:
    """The mean precision at 101 recalls, each the best at that recall or above (Everingham et al.,
    2010; the recalls are those of COCO); `count`: real boxes. NaN without any.
    """
    if not count:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hit[order])
    precision = right / np.arange(1, len(order) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(right / count, RECALLS, side="left")
    return float(np.append(precision, 0.0)[np.minimum(place, len(order))].mean())
