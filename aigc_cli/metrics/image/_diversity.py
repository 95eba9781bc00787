"""How different images are from each other: the mean of a perceptual distance over pairs.

Zhu et al., "Toward multimodal image-to-image translation", 2017, https://arxiv.org/abs/1711.11586,
measure the outputs of one input so, with LPIPS.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches (B, C, H, W) in [-1, 1] -> (B,)."""


def mean_distance(
    images: Tensor, distance: Distance, *, pairs: int = 1000, seed: int = 0, batch_size: int = 32
) -> float:
    """Mean over random pairs of different images (N, C, H, W), all pairs where they are few enough.

    0 where all are equal. N >= 2.

    Raises:
        ValueError: fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"pairs need 2 or more images, not {len(images)}")
    a, b = draw_pairs(len(images), pairs, seed)
    values = [
        distance(images[i], images[j])
        for i, j in zip(a.split(batch_size), b.split(batch_size), strict=True)
    ]
    return float(torch.cat(values).double().mean())


def mean_distance_within(outputs: Tensor, distance: Distance) -> Tensor:
    """(N, M, C, H, W), M outputs of each of N inputs -> (N,): the mean over all pairs of outputs.

    Raises:
        ValueError: fewer than two outputs.
    """
    M = outputs.shape[1]
    if M < 2:
        raise ValueError(f"pairs need 2 or more outputs of an input, not {M}")
    a, b = torch.triu_indices(M, M, 1)
    return torch.stack([distance(images[a], images[b]).mean() for images in outputs])


def draw_pairs(count: int, pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """`pairs` of different numbers below `count`, none twice; all of them where they are fewer."""
    total = count * (count - 1) // 2
    if total <= pairs:
        a, b = torch.triu_indices(count, count, 1)
        return a, b
    generator = torch.Generator().manual_seed(seed)
    drawn: set[tuple[int, int]] = set()
    while len(drawn) < pairs:
        i, j = torch.randint(count, (2,), generator=generator).tolist()
        if i != j:
            drawn.add((min(i, j), max(i, j)))
    a, b = torch.tensor(sorted(drawn)).T
    return a, b
