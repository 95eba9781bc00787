"""Drum patterns as a grid: which of nine drums are hit at each step.

The nine are those of the Groove MIDI Dataset: Gillick et al., "Learning to Groove", 2019,
https://arxiv.org/abs/1905.06118. Going from a grid to notes and back is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aigc_cli.media.events import INSTRUMENTS, TEMPOS, Music

Grid = NDArray[np.bool_]
"""(S, 9): steps, drums."""

DRUMS = (
    "kick", "snare", "closed hat", "open hat", "low tom", "mid tom", "high tom", "crash", "ride",
)  # fmt: skip
PITCHES = (36, 38, 42, 46, 43, 47, 50, 49, 51)
"""The note of General MIDI that each is written as."""
_ALIKE = (
    (35, 36), (37, 38, 39, 40), (22, 42, 44), (26, 46), (41, 43, 58), (45, 47), (48, 50),
    (49, 52, 55, 57), (51, 53, 59),
)  # fmt: skip
DRUM_OF = {pitch: drum for drum, pitches in enumerate(_ALIKE) for pitch in pitches}
"""The number of the drum of each note that has one; others, such as cowbells, are left out."""


def to_grid(music: Music) -> Grid:
    """The hits of all bars of a piece, (bars * steps of a bar, 9)."""
    grid = np.zeros((music.bars * music.steps_per_bar, len(DRUMS)), np.bool_)
    for start, _, pitch, instrument in music.notes.tolist():
        if instrument == INSTRUMENTS - 1 and pitch in DRUM_OF and start < len(grid):
            grid[start, DRUM_OF[pitch]] = True
    return grid


def from_grid(grid: Grid, tempo: float, resolution: int, beats_per_bar: int) -> Music:
    """A piece of hits one step long, at the tempo of TEMPOS that is nearest."""
    step, drum = np.nonzero(grid)
    pitch = np.array(PITCHES)[drum]
    instrument = np.full_like(step, INSTRUMENTS - 1)
    notes = np.stack([step, np.ones_like(step), pitch, instrument], 1)
    notes = notes[np.lexsort((notes[:, 2], notes[:, 0]))]
    nearest = min(TEMPOS, key=lambda one: abs(one - tempo))
    bars = -(-len(grid) // (resolution * beats_per_bar))
    return Music(notes, resolution, beats_per_bar, bars, nearest, 0)


def looped(grid: Grid, steps: int) -> list[Grid]:
    """A grid in parts of so many steps; one that is shorter is repeated until it fills a part."""
    if len(grid) < steps:
        grid = np.tile(grid, (-(-steps // len(grid)), 1))[:steps]
    return [grid[first : first + steps] for first in range(0, len(grid) - steps + 1, steps)]


def codes(grid: Grid) -> NDArray[np.int64]:
    """(S,): each step as a number below 512."""
    return np.asarray(grid @ (1 << np.arange(len(DRUMS))), np.int64)


def from_codes(codes: NDArray[np.int64]) -> Grid:
    """The inverse of `codes`."""
    return (codes[:, None] >> np.arange(len(DRUMS)) & 1).astype(np.bool_)
