"""Specs of drum patterns, and what their batches hold.

| kind    | key      | shape     | range                                                    |
|---------|----------|-----------|----------------------------------------------------------|
| `drums` | grid     | (B, S, 9) | 1 where a drum of media/drums.py is hit, else 0          |
|         | tempo    | (B,)      | log2 of quarters a minute / 120                          |
|         | density  | (B,)      | hits a step                                              |
|         | label    | (B,)      | style, number in `labels`; absent without them           |
|         | unigram, | (B,)      | nats of a validation grid by the frequency of its steps, |
|         | markov   |           | and by that after the step before; absent while training |
|         | drawn    | (B, S, 9) | a grid that this chain draws; absent while training      |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class DrumSpec(Spec):
    """Patterns of `bars` bars on a grid of `resolution` steps a quarter."""

    kind: ClassVar[str] = "drums"

    bars: int
    resolution: int
    beats_per_bar: int
    density: float
    """Of the training patterns, on average."""
    labels: tuple[str, ...] | None = None

    @property
    def steps(self) -> int:
        return self.bars * self.resolution * self.beats_per_bar
