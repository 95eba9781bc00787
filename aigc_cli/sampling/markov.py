"""Markov chains of symbols: what a model of data must beat to have learned more than its surface.

Each order is mixed with the one below as Witten and Bell, 1991, do: a context that was seen n times
with t different successors believes its own counts n / (n + t). Below all is the uniform choice.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Markov:
    """A chain of some order over `size` symbols, learned from rows of them; size ** (order + 1)
    must be below 2 ** 63.
    """

    def __init__(self, rows: Iterable[Ints], size: int, order: int) -> None:
        self.size, self.order = size, order
        whole = [np.asarray(row, np.int64) for row in rows]
        self._tables = [self._counted(whole, k) for k in range(order + 1)]

    def _counted(self, rows: list[Ints], k: int) -> tuple[Ints, Ints, Ints, Ints, Ints]:
        """Codes of k + 1 symbols and how often each was seen; codes of k, their sums and kinds."""
        codes = np.concatenate([self._codes(row, k) for row in rows])
        grams, counts = np.unique(codes, return_counts=True)
        contexts, first = np.unique(grams // self.size, return_index=True)
        kinds = np.diff(np.append(first, len(grams)))
        return grams, counts, contexts, np.add.reduceat(counts, first), kinds

    def _codes(self, row: Ints, k: int) -> Ints:
        """The last k + 1 symbols at each place that has so many, as one number."""
        codes = np.zeros(max(len(row) - k, 0), np.int64)
        for first in range(k + 1):
            codes = codes * self.size + row[first : first + len(codes)]
        return codes

    def probabilities(self, row: Ints) -> Floats:
        """Of each symbol of a row (T,) after those before it, of which the first have fewer."""
        row = np.asarray(row, np.int64)
        found = np.full(len(row), 1 / self.size)
        for k in range(min(self.order + 1, len(row))):
            found[k:] = self._mixed(self._codes(row, k), found[k:], self._tables[k])
        return found

    def after(self, row: Ints) -> Floats:
        """(size,): the probability of each symbol after a row."""
        found = np.full(self.size, 1 / self.size)
        symbols = np.arange(self.size)
        for k in range(min(self.order, len(row)) + 1):
            context = 0
            for symbol in row[len(row) - k :]:
                context = context * self.size + int(symbol)
            found = self._mixed(context * self.size + symbols, found, self._tables[k])
        return found

    def _mixed(self, codes: Ints, lower: Floats, table: tuple[Ints, ...]) -> Floats:
        grams, counts, contexts, totals, kinds = table
        seen, total = _at(codes, grams, counts), _at(codes // self.size, contexts, totals)
        different = _at(codes // self.size, contexts, kinds)
        return np.where(
            total > 0, (seen + different * lower) / np.maximum(total + different, 1), lower
        )


def _at(codes: Ints, keys: Ints, values: Ints) -> Ints:
    """The value of each code, 0 where it is no key."""
    place = np.searchsorted(keys, codes).clip(max=len(keys) - 1)
    return np.where(keys[place] == codes, values[place], 0)
