"""How many pitch classes a bar has: UPC of MuseGAN (Dong et al., 2018,
https://arxiv.org/abs/1709.06298).
"""

from __future__ import annotations

import numpy as np

from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, Music
from aigc_cli.metrics.music._music import MusicMetric


class Metric(MusicMetric):
    """Mean number of pitch classes that begin in a bar of an instrument, where any does."""

    unit = "pitch classes"
    protocol = (
        "mean of the pitch classes of the notes of a bar of an instrument, empty bars left out"
    )

    def compute(self, thing: Music) -> float:
        notes = thing.notes[thing.notes[:, 3] != INSTRUMENTS - 1]
        if not len(notes):
            raise DataError("a piece has no notes with a pitch")
        place = np.stack([notes[:, 3], notes[:, 0] // thing.steps_per_bar, notes[:, 2] % 12], 1)
        different = np.unique(place, axis=0)
        return len(different) / len(np.unique(different[:, :2], axis=0))
