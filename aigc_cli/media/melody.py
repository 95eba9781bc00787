"""One voice of a piece as a row of symbols, one a step: Roberts et al., "A Hierarchical Latent
Vector Model for Learning Long-Term Structure in Music", 2018, https://arxiv.org/abs/1803.05428.

A symbol is the beginning of a note (its pitch), that it goes on, or silence. Going from a row to
notes and back is exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aigc_cli.media.events import INSTRUMENTS, Music, estimate_key

REST, HOLD, PITCH = 0, 1, 2
SIZE = PITCH + 128
Row = NDArray[np.int64]
"""(S,): below SIZE."""


def melody(music: Music) -> Row:
    """The highest voice: a note replaces the one that sounds where it is higher, and the next that
    begins where that has ended.
    """
    row = np.full(music.bars * music.steps_per_bar, REST, np.int64)
    sounding, end = -1, 0
    pitched = music.notes[music.notes[:, 3] != INSTRUMENTS - 1]
    highest: dict[int, tuple[int, int]] = {}
    for start, duration, pitch, _ in pitched.tolist():
        highest[start] = max(highest.get(start, (-1, 0)), (pitch, duration))
    for start, (pitch, duration) in sorted(highest.items()):
        if start >= len(row) or (start < end and pitch < sounding):
            continue
        row[start:end] = REST  # what was to sound on is cut
        sounding, end = pitch, min(start + duration, len(row))
        row[start], row[start + 1 : end] = PITCH + pitch, HOLD
    return row


def from_melody(row: Row, resolution: int, beats_per_bar: int, tempo: int, group: int = 0) -> Music:
    """A piece of one instrument, the group of programs `group`; a HOLD after silence is silence."""
    notes: list[list[int]] = []
    sounds = False
    for step, symbol in enumerate(np.asarray(row).tolist()):
        if symbol >= PITCH:
            notes.append([step, 1, symbol - PITCH, group])
        elif symbol == HOLD and sounds:
            notes[-1][1] += 1
        sounds = symbol >= PITCH or (symbol == HOLD and sounds)
    rows = np.array(notes, np.int64).reshape(-1, 4)
    bars = -(-len(row) // (resolution * beats_per_bar))
    return Music(rows, resolution, beats_per_bar, bars, tempo, estimate_key(rows))


def settled(row: Row) -> Row:
    """The same melody with REST for every HOLD that holds nothing."""
    row = np.asarray(row).copy()
    sounds = False
    for step, symbol in enumerate(row.tolist()):
        sounds = symbol >= PITCH or (symbol == HOLD and sounds)
        row[step] = symbol if sounds else REST
    return row


def hamming(a: Row, b: Row) -> float:
    """The share of steps in which two melodies sound differently."""
    return float((settled(a) != settled(b)).mean())
