"""Inception score: Salimans et al., "Improved techniques for training GANs", 2016,
https://arxiv.org/abs/1606.03498.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Score(NamedTuple):
    """Mean and standard deviation over the splits."""

    mean: float
    std: float


def inception_score(logits: Tensor, *, splits: int = 10, seed: int | None = 0) -> Score:
    """exp E_x KL(p(y|x) || p(y)) of logits (N, K); 1 is worst, K is best.

    Images are shuffled by `seed` before they are split, so that sorted files do not put one class
    in each split; None leaves their order. With N < `splits` there is one split.
    """
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        logits = logits[torch.randperm(len(logits), generator=generator)]
    log_p = logits.double().log_softmax(1)  # (N, K)
    parts = log_p.tensor_split(splits if len(log_p) >= splits else 1)
    scores = torch.stack([_score(part) for part in parts])
    return Score(float(scores.mean()), float(scores.std(correction=0)))


def _score(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    marginal = p.mean(0).log()
    return torch.special.xlogy(p, p).sum(1).sub((p * marginal).nan_to_num(0).sum(1)).mean().exp()
