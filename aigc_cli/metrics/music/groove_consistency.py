"""How alike the rhythm of neighboring bars is."""

from __future__ import annotations

import numpy as np

from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric


class Metric(MusicMetric):
    """One less the mean Hamming distance of the onsets of neighboring bars."""

    unit = "0-1"
    protocol = "1 - mean share of steps of neighboring bars that differ in having an onset"

    def compute(self, thing: Music) -> float:
        if thing.bars < 2:
            raise DataError("a piece of one bar has no neighboring bars")
        onsets = np.zeros((thing.bars, thing.steps_per_bar), np.bool_)
        onsets.reshape(-1)[thing.notes[:, 0]] = True
        return float(1 - (onsets[1:] != onsets[:-1]).mean())
