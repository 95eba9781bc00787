"""Specs of music, and what its batches hold.

| kind     | key     | shape      | range                                                         |
|----------|---------|------------|---------------------------------------------------------------|
| `midi`   | tokens  | (B, T)     | tokens of media/merges.py: events of media/events.py, or runs |
|          |         |            | of them                                                       |
|          | target  | (B, T)     | the token that follows each, IGNORE where nothing is to       |
|          |         |            | be learned                                                    |
| `frames` | seen    | (B, T, 89) | 0 or 1, uint8: the keys that sound in the frame before each,  |
|          |         |            | or the last column alone at the beginning of a piece          |
|          | frames  | (B, T, 88) | 0 or 1, uint8: the keys that sound in each frame              |
|          | counted | (B, T)     | whether a frame is to be learned, bool                        |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class MusicSpec(Spec):
    """Pieces as rows of `context` tokens, on a grid of `resolution` steps a quarter."""

    kind: ClassVar[str] = "midi"

    context: int
    resolution: int
    beats_per_bar: int
    labels: tuple[str, ...] = ()
    """What pieces are said to be, such as genres; none where nothing is."""
    merges: tuple[int, ...] = ()
    """Pairs of tokens that are tokens, too, in the order of media/merges.py."""


@dataclass(frozen=True)
class FramesSpec(Spec):
    """Pieces as rows of `context` frames, `resolution` a quarter, and what a model that learns
    nothing knows of the training pieces.
    """

    kind: ClassVar[str] = "frames"

    context: int
    resolution: int
    beats_per_bar: int
    tempo: float
    """Quarters a minute, the mean of the training pieces."""
    unigram: tuple[float, ...]
    """(88,): how often each key sounds."""
    markov: tuple[float, ...]
    """(176,): how often each key sounds where it did not in the frame before, then where it did."""
