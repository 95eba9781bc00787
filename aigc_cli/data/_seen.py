"""What decoding showed of each image of a source, in columns: a million take 20 MB."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 14  # rows that are turned into text at once


@dataclass(frozen=True)
class Seen:
    """What decoding one image showed."""

    height: int
    width: int
    mode: str
    """gray or RGB, `A` when it has transparency, and its bits when they are 16; gray is also what
    has three channels that are equal.
    """
    content: int = 0
    """CRC-32 of the pixels."""


class Seens(Mapping[int, Seen]):
    """`Seen` by the number of its image, in the order given."""

    def __init__(
        self,
        numbers: NDArray[np.int64],
        height: NDArray[Any],
        width: NDArray[Any],
        mode: NDArray[Any],
        modes: Sequence[str],
        content: NDArray[Any],
    ) -> None:
        """numbers, height, width, mode, content (N,); `mode` counts within `modes`."""
        self.numbers, self.height, self.width = numbers, height, width
        self.mode, self.modes, self.content = mode, list(modes), content
        ascending = len(numbers) < 2 or bool((np.diff(numbers) > 0).all())
        self._order = None if ascending else np.argsort(numbers, kind="stable")

    @classmethod
    def of(cls, seen: Mapping[int, Seen]) -> Seens:
        """As columns, if they are not."""
        if isinstance(seen, Seens):
            return seen
        rows = list(seen.values())
        modes = list(dict.fromkeys(row.mode for row in rows))
        place = {mode: number for number, mode in enumerate(modes)}
        return cls(
            np.array(list(seen), np.int64),
            np.array([row.height for row in rows], np.uint32),
            np.array([row.width for row in rows], np.uint32),
            np.array([place[row.mode] for row in rows], np.uint16),
            modes,
            np.array([row.content for row in rows], np.uint32),
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(array("q", self.numbers.tobytes()))

    def __getitem__(self, number: int) -> Seen:
        place = int(np.searchsorted(self.numbers, number, sorter=self._order))
        if place < len(self.numbers):
            place = place if self._order is None else int(self._order[place])
            if self.numbers[place] == number:
                return self.row(place)
        raise KeyError(number)

    def row(self, place: int) -> Seen:
        """Of the image at this place in the order."""
        return Seen(
            int(self.height[place]),
            int(self.width[place]),
            self.modes[int(self.mode[place])],
            int(self.content[place]),
        )

    @property
    def rows(self) -> Rows:
        """In order."""
        return Rows(self)

    def take(self, places: NDArray[Any]) -> Seens:
        """Those at these places."""
        columns = (c[places] for c in (self.height, self.width, self.mode))
        height, width, mode = columns
        return Seens(self.numbers[places], height, width, mode, self.modes, self.content[places])

    def reasons(self, unfit: Callable[[Seen], str | None]) -> dict[int, str]:
        """Why images are unfit, by their places; asked once for all of one size and mode."""
        # As one number each: rows of numbers take many times as long to sort.
        sizes = self.height.astype(np.uint64) << np.uint64(32) | self.width.astype(np.uint64)
        sizes, place = np.unique(sizes, return_inverse=True)
        kinds, inverse = np.unique(place * len(self.modes) + self.mode, return_inverse=True)
        size, mode = np.divmod(kinds, max(len(self.modes), 1))
        found = zip(sizes[size].tolist(), mode.tolist(), strict=True)
        told = [unfit(Seen(hw >> 32, hw & 0xFFFFFFFF, self.modes[m])) for hw, m in found]
        if not any(told):
            return {}
        return {p: told[k] or "" for p, k in enumerate(inverse.tolist()) if told[k]}

    def counts(self) -> dict[str, int]:
        """Images of each mode: the most frequent first, then in the order of their first images."""
        codes, first, counts = np.unique(self.mode, return_index=True, return_counts=True)
        order = np.lexsort((first, -counts))
        return {self.modes[int(codes[i])]: int(counts[i]) for i in order}

    def sizes(self) -> dict[str, list[int]]:
        """[width, height] of the smallest, the median and the largest image by area."""
        if not len(self):
            return {}
        area = self.width.astype(np.int64) * self.height
        order = np.lexsort((self.height, self.width, area))
        places = {"min": order[0], "median": order[len(order) // 2], "max": order[-1]}
        return {key: [int(self.width[p]), int(self.height[p])] for key, p in places.items()}

    def texts(self) -> Iterator[bytes]:
        """`number height width content;` of each image, in pieces."""
        for start in range(0, len(self), BLOCK):
            part = slice(start, start + BLOCK)
            columns = (self.numbers, self.height, self.width, self.content)
            rows = zip(*(column[part].tolist() for column in columns), strict=True)
            yield "".join([f"{n} {h} {w} {c};" for n, h, w, c in rows]).encode()


class Rows(Sequence[Seen]):
    """The rows of `Seens` by their places."""

    def __init__(self, seens: Seens) -> None:
        self._seens = seens

    def __len__(self) -> int:
        return len(self._seens)

    @overload
    def __getitem__(self, place: int) -> Seen: ...
    @overload
    def __getitem__(self, place: slice) -> list[Seen]: ...
    def __getitem__(self, place: int | slice) -> Seen | list[Seen]:
        if isinstance(place, slice):
            return [self._seens.row(p) for p in range(len(self))[place]]
        return self._seens.row(range(len(self))[place])
