"""How much of a piece is silent."""

from __future__ import annotations

import numpy as np

from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric


class Metric(MusicMetric):
    """Share of beats in which nothing sounds. MusPy's also counts the beat at which a note ends."""

    higher_is_better = False
    unit = "0-1"
    protocol = (
        "quarters of whole bars in which no note sounds; a note fills up to its end, exclusive"
    )

    def compute(self, thing: Music) -> float:
        beats = thing.bars * thing.beats_per_bar
        if not beats:
            raise DataError("a piece has no bars")
        filled = np.zeros(beats, np.bool_)
        for start, duration in thing.notes[:, :2].tolist():
            filled[start // thing.resolution : (start + duration - 1) // thing.resolution + 1] = (
                True
            )
        return float(1 - filled.mean())
