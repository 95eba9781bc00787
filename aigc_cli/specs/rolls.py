"""Specs of piano rolls, and what their batches hold.

| kind    | key   | shape           | range                                                     |
|---------|-------|-----------------|-----------------------------------------------------------|
| `rolls` | roll  | (B, 2, 88, S)   | 1 where a key is struck, and where it is held, else 0;    |
|         |       |                 | the keys of a piano from the lowest on                    |
|         | label | (B,)            | number in `labels`                                        |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class RollSpec(Spec):
    """Stretches of `bars` bars on a grid of `resolution` steps a quarter, of classes."""

    kind: ClassVar[str] = "rolls"

    bars: int
    resolution: int
    beats_per_bar: int
    labels: tuple[str, ...]
    shares: tuple[float, ...]
    """Of the classes, among the stretches of real training pieces."""

    @property
    def steps(self) -> int:
        return self.bars * self.resolution * self.beats_per_bar
