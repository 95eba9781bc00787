"""How many bars are silent: EB of MuseGAN (Dong et al., 2018, https://arxiv.org/abs/1709.06298)."""

from __future__ import annotations

import numpy as np

from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric


class Metric(MusicMetric):
    """Share of the bars of instruments in which the instrument is silent."""

    higher_is_better = False
    unit = "0-1"
    protocol = "bars in which an instrument does not sound, over all bars of all that play"

    def compute(self, thing: Music) -> float:
        tracks = np.unique(thing.notes[:, 3])
        if not thing.bars or not len(tracks):
            raise DataError("a piece has no bars with notes")
        filled = np.zeros((len(tracks), thing.bars), np.bool_)
        for start, duration, _, instrument in thing.notes.tolist():
            last = (start + duration - 1) // thing.steps_per_bar
            filled[np.searchsorted(tracks, instrument), start // thing.steps_per_bar : last + 1] = 1
        return float(1 - filled.mean())
