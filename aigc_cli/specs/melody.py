"""Specs of melodies, and what their batches hold.

| kind       | key     | shape  | range                                                       |
|------------|---------|--------|-------------------------------------------------------------|
| `melodies` | melody  | (B, S) | symbols of media/melody.py                                  |
|            | unigram | (B,)   | nats of a validation melody by the frequency of its symbols |
|            | markov  | (B,)   | and by that after the two before; both absent in training   |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class MelodySpec(Spec):
    """Melodies of `bars` bars on a grid of `resolution` steps a quarter."""

    kind: ClassVar[str] = "melodies"

    bars: int
    resolution: int
    beats_per_bar: int
    tempo: int = 120
    """The median of the training pieces, for what is made."""

    @property
    def steps(self) -> int:
        return self.bars * self.resolution * self.beats_per_bar
