"""The longest runs of notes that pieces share with others, in whatever key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aigc_cli.media.events import INSTRUMENTS, Music

Ints = NDArray[np.int64]
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that its powers have inverses modulo 2^64
INVERSE = np.uint64(pow(int(BASE), -1, 1 << 64))


def steps_of(music: Music) -> Ints:
    """(N - 1, 3): for each note that is no drum but the first, how much later and higher it begins
    than the one before, and its length; in quarters of 1 / 24, so that grids do not matter.
    """
    notes = music.notes[music.notes[:, 3] != INSTRUMENTS - 1]
    notes = notes[np.lexsort((notes[:, 2], notes[:, 0]))]
    scale = 24 // music.resolution
    after = np.diff(notes[:, 0]) * scale
    return np.stack([after, np.diff(notes[:, 2]), notes[1:, 1] * scale], 1)


def longest_runs(pieces: Sequence[Music], others: Sequence[Music]) -> Ints:
    """(n,): for each piece the notes of its longest run that occurs in any of the others, 0 where
    no two notes do. A run is found by the hashes of all stretches of a length, whose largest is
    searched for each piece.
    """
    rows = [steps_of(music) for music in (*pieces, *others)]
    kinds = np.unique(np.concatenate(rows), axis=0, return_inverse=True)[1].reshape(-1)
    words = np.random.default_rng(0).integers(0, 1 << 63, int(kinds.max(initial=0)) + 1)
    parts = np.split(words[kinds].astype(np.uint64), np.cumsum([len(row) for row in rows])[:-1])
    own = [_Hashed(part) for part in parts[: len(pieces)]]
    known = [_Hashed(part) for part in parts[len(pieces) :]]
    found = np.zeros(len(own), np.int64)
    most = max((len(one.words) for one in own), default=0)
    for bit in reversed(range(most.bit_length())):
        for length in np.unique(found).tolist():
            group = np.flatnonzero(found == length)
            tried = length + (1 << bit)
            there = np.unique(np.concatenate([one.stretches(tried) for one in known]))
            for number in group:
                if np.isin(own[number].stretches(tried), there).any():
                    found[number] = tried
    return np.where(found > 0, found + 1, 0)


class _Hashed:
    """Hashes of the stretches of a row of words, of any length."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words
        power = np.cumprod(np.full(len(words), BASE, np.uint64), dtype=np.uint64)
        self.sums = np.concatenate([[np.uint64(0)], np.cumsum(words * power, dtype=np.uint64)])
        self.inverse = np.cumprod(np.full(len(words), INVERSE, np.uint64), dtype=np.uint64)

    def stretches(self, length: int) -> NDArray[np.uint64]:
        """Of each stretch of so many words; none where there are fewer."""
        if length > len(self.words):
            return np.zeros(0, np.uint64)
        return (self.sums[length:] - self.sums[:-length]) * self.inverse[
            : len(self.words) - length + 1
        ]
