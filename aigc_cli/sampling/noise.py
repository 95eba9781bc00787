"""Noise that belongs to a sample, not to the batch it is drawn in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


class SampleNoise:
    """Randomness for `count` samples of a seed, number `first` and every `step`-th from there on.

    Row i of every draw depends on (seed, first + i * step) and on the draws before it, never on
    `count`: the same seed gives the same samples whatever the batch size. Drawn on the CPU, so that
    it is equal on every device.
    """

    def __init__(self, seed: int, first: int, count: int, step: int = 1) -> None:
        self.first, self.count = first, count
        self.numbers = range(first, first + count * step, step)
        self._rows = [_generator(seed, number) for number in self.numbers]

    @classmethod
    def joined(cls, parts: Sequence[SampleNoise]) -> SampleNoise:
        """The rows of all, each with what it has left to give; the parts are used up."""
        whole = cls(0, 0, 0)
        whole._rows = [row for part in parts for row in part._rows]
        whole.count = len(whole._rows)
        return whole

    def randn(self, *shape: int) -> Tensor:
        """Standard normal, float32 (count, *shape)."""
        return torch.stack([torch.randn(shape, generator=row) for row in self._rows])

    def rand(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), float64 (count, *shape)."""
        draws = [torch.rand(shape, generator=row, dtype=torch.float64) for row in self._rows]
        return torch.stack(draws)


def _generator(seed: int, index: int) -> torch.Generator:
    """Neighboring seeds and indices share nothing, which `seed + index` would not give."""
    digest = hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
