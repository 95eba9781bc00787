"""Piano rolls: time to the right, pitch upwards, a color for each group of instruments."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from aigc_cli.media.events import INSTRUMENTS, Music, estimate_key, settle
from aigc_cli.media.image import Raster

STEP, ROW = 4, 4  # pixels of a step and of a pitch
MARGIN = 2  # pitches beyond the lowest and the highest
WIDEST = 16_000  # pixels
LOWEST, KEYS = 21, 88  # of a piano
BLACK_KEYS = (1, 3, 6, 8, 10)


def piano_roll(music: Music) -> Raster:
    """An RGB image of a piece: lines at beats, darker ones at bars, rows of black keys gray."""
    pitches = music.notes[:, 2] if len(music.notes) else np.array([48, 72])
    low, high = max(int(pitches.min()) - MARGIN, 0), min(int(pitches.max()) + MARGIN, 127)
    steps = min(max(music.bars, 1) * music.steps_per_bar, WIDEST // STEP)
    pixels = np.full(((high - low + 1) * ROW, steps * STEP + 1, 3), 255, np.uint8)
    for pitch in range(low, high + 1):
        if pitch % 12 in BLACK_KEYS:
            pixels[(high - pitch) * ROW : (high - pitch + 1) * ROW] = 240
    pixels[:, :: music.resolution * STEP] = 225
    pixels[:, :: music.steps_per_bar * STEP] = 150
    for start, duration, pitch, instrument in music.notes.tolist():
        top, left = (high - pitch) * ROW, start * STEP + 1
        pixels[top : top + ROW, left : left + duration * STEP - 1] = _color(instrument)
    return Raster(pixels)


def _color(instrument: int) -> list[int]:
    """Of one of the groups of General MIDI, all far from each other."""
    hue = (0.6 + 0.381966 * instrument) % 1  # steps of the golden ratio
    return [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 0.75)]


def to_roll(music: Music) -> NDArray[np.bool_]:
    """(2, KEYS, S): where the keys of a piano are struck, and where they are held; without drums
    and what lies beyond the piano.
    """
    roll = np.zeros((2, KEYS, music.bars * music.steps_per_bar), np.bool_)
    for start, duration, pitch, instrument in music.notes.tolist():
        key = pitch - LOWEST
        if instrument != INSTRUMENTS - 1 and 0 <= key < KEYS and start < roll.shape[2]:
            roll[0, key, start] = True
            roll[1, key, start : start + duration] = True
    return roll


def from_roll(
    roll: NDArray[np.bool_], resolution: int, beats_per_bar: int, tempo: int = 120
) -> Music:
    """The piece of a roll (2, KEYS, S) in whole bars, played by a piano. A note begins where a key
    is struck, or begins to be held, and ends where it is not held or is struck again. The inverse
    of `to_roll` for the piano.
    """
    struck, held = roll[0], roll[0] | roll[1]
    begins = struck | (held & ~np.pad(held, ((0, 0), (1, 0)))[:, :-1])
    ends = np.pad(begins | ~held, ((0, 0), (0, 1)), constant_values=True)  # (KEYS, S + 1)
    key, start = np.nonzero(begins)
    length = [int(np.argmax(ends[k, s + 1 :])) + 1 for k, s in zip(key, start, strict=True)]
    rows = np.stack([start, np.array(length, np.int64), key + LOWEST, np.zeros_like(key)], 1)
    notes = settle(rows.astype(np.int64))
    bars = -(-roll.shape[2] // (resolution * beats_per_bar))
    return Music(notes, resolution, beats_per_bar, bars, tempo, estimate_key(notes))


def stretches(music: Music, steps: int) -> list[NDArray[np.bool_]]:
    """Rolls (2, KEYS, steps) that follow each other; the last is filled with silence, and left out
    where less than half of it is music.
    """
    roll = to_roll(music)
    S = roll.shape[2]
    count = max(round(S / steps), 1)
    roll = np.pad(roll, ((0, 0), (0, 0), (0, max(count * steps - S, 0))))
    return [roll[:, :, first : first + steps] for first in range(0, count * steps, steps)]
