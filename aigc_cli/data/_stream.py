"""The order of the training data as a pure function of (seed, position).

Position `p` of the stream is item `permutation(seed, p // n, n)[p % n]`, and everything random
about that item follows from `item_seed(seed, p)`. Nothing is stored and nothing is advanced, so the
order does not depend on the number of processes or workers, and a resumed run only needs its step.

Items of several lengths are read in the order of `by_length`, a permutation of an epoch in which
the items of a batch are about equally long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

Key = tuple[int, int]
"""(item number, item seed): what a training set is asked for."""

POOL = 64  # batches whose items are sorted by length together

_MASK = (1 << 64) - 1


def _mix(z: int) -> int:
    """Bijection of 64-bit integers that changes half of the bits when one changes.

    The finalizer of splitmix64: Steele, Lea and Flood, 2014, https://doi.org/10.1145/2660193.2660195
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


def by_length(seed: int, epoch: int, lengths: Sequence[int] | np.ndarray, batch: int) -> np.ndarray:
    """As `permutation`, with items of about one length in each batch of the stream.

    The permuted items are sorted in stretches of POOL batches, and the batches of a stretch
    shuffled. Batches begin at multiples of `batch` in the whole stream, so the first items of an
    epoch, which complete the last batch of the one before, stay where they are.
    """
    n = len(lengths)
    order = permutation(seed, epoch, n).copy()
    draw = np.random.default_rng([seed & _MASK, epoch, batch])
    for start in range(-epoch * n % batch, n, POOL * batch):
        stretch = order[start : start + POOL * batch]
        stretch = stretch[np.argsort(np.asarray(lengths)[stretch], kind="stable")]
        whole = len(stretch) // batch * batch
        batches = draw.permutation(stretch[:whole].reshape(-1, batch)) if whole else stretch[:0]
        order[start : start + len(stretch)] = np.concatenate([batches.ravel(), stretch[whole:]])
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
    `batches` a step has the shares of so many successive batches, one after the other. With
    `lengths` (n,) the items of a batch are about equally long.

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
        lengths: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        if n < 1:
            raise ValueError("a stream needs at least one item")
        if global_batch % world:
            raise ValueError(f"global_batch ({global_batch}) must be divisible by {world} devices")
        self.n, self.seed = n, seed
        self.global_batch, self.share = global_batch, global_batch // world
        self.rank = rank
        self.start, self.stop, self.batches = start, stop, batches
        self.lengths = lengths
        self._order = lru_cache(maxsize=4)(self._sorted)

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        for step in range(self.start, self.stop):
            keys = []
            for batch in range(step * self.batches, (step + 1) * self.batches):
                first = batch * self.global_batch + self.rank * self.share
                keys += [self._key(p) for p in range(first, first + self.share)]
            yield keys

    def _key(self, position: int) -> Key:
        if self.lengths is None:
            return key_at(self.seed, position, self.n)
        epoch, place = divmod(position, self.n)
        return int(self._order(epoch)[place]), item_seed(self.seed, position)

    def _sorted(self, epoch: int) -> np.ndarray:
        assert self.lengths is not None
        return by_length(self.seed, epoch, self.lengths, self.global_batch)


class ShardSampler:
    """Every `world`-th item from `rank` on: validation over the ranks, without padding."""

    def __init__(self, n: int, rank: int = 0, world: int = 1) -> None:
        self.items = range(rank, n, world)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)
