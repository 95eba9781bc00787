"""Mu-law: samples as a few levels that lie closer where sound is quiet (ITU-T G.711, mu = 255)."""

from __future__ import annotations

from math import log1p

import torch
from torch import Tensor

MU = 255.0


def compress(x: Tensor) -> Tensor:
    """Samples in [-1, 1] -> [-1, 1]: sign(x) ln(1 + mu |x|) / ln(1 + mu)."""
    return torch.sign(x) * torch.log1p(MU * x.abs()) / log1p(MU)


def expand(y: Tensor) -> Tensor:
    """The inverse of `compress`."""
    return torch.sign(y) * torch.expm1(y.abs() * log1p(MU)) / MU


def to_levels(x: Tensor, levels: int) -> Tensor:
    """Samples in [-1, 1] -> int64 in [0, levels), the nearest on the compressed scale."""
    return torch.round((compress(x.double()) + 1) / 2 * (levels - 1)).long()


def from_levels(level: Tensor, levels: int) -> Tensor:
    """int64 in [0, levels) -> samples float32; `to_levels` gives the same levels back."""
    return expand(on_scale(level, levels).double()).float()


def on_scale(level: Tensor, levels: int) -> Tensor:
    """int64 in [0, levels) -> the compressed scale [-1, 1], float32."""
    return level.float() * (2 / (levels - 1)) - 1
