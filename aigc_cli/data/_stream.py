"""The order of the training data as a pure function of (seed, position).

Position `p` of the stream is item `permutation(seed, p // n, n)[p % n]`, and everything random
about that item follows from `item_seed(seed, p)`. Nothing is stored and nothing is advanced, so the
order does not depend on the number of processes or workers, and a resumed run only needs its step.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

Key = tuple[int, int]
"""(item number, item seed): what a training set is asked for."""

_MASK = (1 << 64) - 1


def _mix(z: int) -> int:
    """Bijection of 64-bit integers that changes half of the bits when one changes.

    The finaliser of splitmix64: Steele, Lea and Flood, 2014, https://doi.org/10.1145/2660193.2660195
    """
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def item_seed(seed: int, position: int) -> int:
    """64-bit seed of the item at `position`: that output of splitmix64 from the mixed seed."""
    return _mix((_mix(seed & _MASK) + (position + 1) * 0x9E3779B97F4A7C15) & _MASK)


@lru_cache(maxsize=4)  # an epoch ends inside a batch, and a small set ends several times
def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """Order (n,) in which epoch `epoch` visits `n` items; read-only because it is shared."""
    order = np.random.default_rng([seed & _MASK, epoch]).permutation(n)
    order.flags.writeable = False
    return order


def key_at(seed: int, position: int, n: int) -> Key:
    """What is read at `position` of the endless stream over `n` items."""
    epoch, place = divmod(position, n)
    return int(permutation(seed, epoch, n)[place]), item_seed(seed, position)


class StepSampler:
    """Batch sampler: for each step in [start, stop) the keys of this rank's share of the batch.

    Step `t` covers positions [t G, (t + 1) G) of the stream and rank `r` of `world` the r-th part
    of them, so all ranks together see every item exactly once an epoch, and `start` alone resumes
    the order. A set smaller than the batch is simply visited several times in a step. With several
    `batches` a step has the shares of so many successive batches, one after the other.

    Raises:
        ValueError: there are no items, or the batch cannot be divided evenly over the ranks.
    """

    def __init__(
        self,
        n: int,
        *,
        global_batch: int,
        rank: int = 0,
        world: int = 1,
        seed: int,
        start: int = 0,
        stop: int,
        batches: int = 1,
    ) -> None:
        if n < 1:
            raise ValueError("a stream needs at least one item")
        if global_batch % world:
            raise ValueError(f"global_batch ({global_batch}) must be divisible by {world} devices")
        self.n, self.seed = n, seed
        self.global_batch, self.share = global_batch, global_batch // world
        self.rank = rank
        self.start, self.stop, self.batches = start, stop, batches

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, self.stop):
            keys = []
            for batch in range(step * self.batches, (step + 1) * self.batches):
                first = batch * self.global_batch + self.rank * self.share
                keys += [key_at(self.seed, p, self.n) for p in range(first, first + self.share)]
            yield keys


class ShardSampler:
    """Every `world`-th item from `rank` on: validation over the ranks, without padding."""

    def __init__(self, n: int, rank: int = 0, world: int = 1) -> None:
        self.items = range(rank, n, world)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)
