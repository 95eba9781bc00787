"""Several sources as one."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import PurePosixPath

from aigc_cli.data._names import clean_name
from aigc_cli.data._sources._source import Source
from aigc_cli.errors import DataError
from aigc_cli.media.image import Raster


class Joined(Source):
    """Several sources, one after the other."""

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = list(parts)
        self.text = ", ".join(part.text for part in parts)
        self.max_pixels = parts[0].max_pixels
        self._ends = list(accumulate(map(len, parts)))
        self.skipped = sum((Counter(part.skipped) for part in parts), Counter())

    def __len__(self) -> int:
        return self._ends[-1]

    def _find(self, index: int) -> tuple[Source, int]:
        part = bisect_right(self._ends, index)
        return self.parts[part], index - (self._ends[part - 1] if part else 0)

    def name(self, index: int) -> str:
        """The name in its part behind the last word of what the recipe calls the part."""
        part, number = self._find(index)
        return f"{PurePosixPath(clean_name(part.text)).name}/{part.name(number)}"

    def twin_name(self, index: int) -> str:
        part, number = self._find(index)
        return f"{self.parts.index(part)}/{part.twin_name(number)}"

    def fingerprint(self, index: int) -> str:
        part, number = self._find(index)
        return part.fingerprint(number)

    def read(self, index: int) -> Raster:
        part, number = self._find(index)
        with self._named(index):
            return part.read(number)

    def content(self, index: int) -> bytes:
        part, number = self._find(index)
        with self._named(index):
            return part.content(number)

    @contextmanager
    def _named(self, index: int) -> Iterator[None]:
        """An image that cannot be used has its name among all of them."""
        part, number = self._find(index)
        try:
            yield
        except DataError as error:
            reason = error.message.removeprefix(f"{part.name(number)}: ")
            raise DataError(f"{self.name(index)}: {reason}") from error

    def labels(self) -> list[str] | None:
        labels = [part.labels() for part in self.parts]
        if any(known is None for known in labels):
            return None
        return [label for known in labels for label in known or ()]
