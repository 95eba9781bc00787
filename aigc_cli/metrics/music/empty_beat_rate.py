"""How much of a piece is silent."""

from __future__ import annotations

import numpy as np

from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric
from aigc_cli.recipe.sections import Section


class Metric(MusicMetric):
    """Share of beats in which nothing sounds."""

    higher_is_better = False
    unit = "0-1"
    protocol = "quarters in which no note sounds, over whole bars; as MusPy counts: {muspy}"

    class Options(Section):
        """What is a beat of the piece, and when it is filled."""

        muspy: bool = False
        """As MusPy 0.5: a note fills the beat that begins where it ends too, and the piece has the
        beats up to that of its last end.
        """

    def compute(self, thing: Music) -> float:
        beats, late = thing.bars * thing.beats_per_bar, 1
        if self.options.muspy and len(thing.notes):
            beats, late = int(thing.notes[:, :2].sum(1).max()) // thing.resolution + 1, 0
        if not beats:
            raise DataError("a piece has no bars")
        filled = np.zeros(beats, np.bool_)
        for start, duration in thing.notes[:, :2].tolist():
            last = (start + duration - late) // thing.resolution
            filled[start // thing.resolution : last + 1] = True
        return float(1 - filled.mean())
