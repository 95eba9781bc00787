"""Noise that belongs to a sample, not to the batch it is drawn in."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class SampleNoise:
    """Randomness for samples number first ... first + count - 1 of a seed.

    Row i of every draw depends on (seed, first + i) and on the draws before it, never on `count`:
    the same seed gives the same samples whatever the batch size. Drawn on the CPU, so that it is
    equal on every device.
    """

    def __init__(self, seed: int, first: int, count: int) -> None:
        self.first, self.count = first, count
        self._rows = [_generator(seed, first + i) for i in range(count)]

    def randn(self, *shape: int) -> Tensor:
        """Standard normal, float32 (count, *shape)."""
        return torch.stack([torch.randn(shape, generator=row) for row in self._rows])


def _generator(seed: int, index: int) -> torch.Generator:
    """Neighbouring seeds and indices share nothing, which `seed + index` would not give."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
