"""What the metrics of music share. A thing is a `Music` of media/events.py. Definitions are those
of MusPy (Dong et al., 2020, https://arxiv.org/abs/2008.01951) unless a metric says otherwise.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, Music
from aigc_cli.metrics._metric import ItemMetric

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}


class MusicMetric(ItemMetric):
    """A number for each piece; whether more of it is better depends on the music."""

    higher_is_better: ClassVar[bool] = True


def pitches(music: Music) -> NDArray[np.int64]:
    """Of every note that is no drum, (N,).

    Raises:
        DataError: there is none.
    """
    pitched = music.notes[music.notes[:, 3] != INSTRUMENTS - 1]
    if not len(pitched):
        raise DataError("a piece has no notes with a pitch")
    return np.asarray(pitched[:, 2])


def pitch_classes(music: Music) -> NDArray[np.int64]:
    """Of every note that is no drum, (N,), 0 to 11. Raises as `pitches`."""
    return pitches(music) % 12


def entropy(numbers: NDArray[np.int64]) -> float:
    """Bits of the distribution of numbers (N,)."""
    counts = np.bincount(numbers)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())


def sounding(music: Music) -> NDArray[np.int64]:
    """How many pitches sound at each step up to the end of the last, (T,), drums left out."""
    pitched = music.notes[music.notes[:, 3] != INSTRUMENTS - 1]
    roll = np.zeros((int(pitched[:, :2].sum(1).max(initial=0)), 128), np.bool_)
    for start, duration, pitch in pitched[:, :3].tolist():
        roll[start : start + duration, pitch] = True
    return roll.sum(1)
