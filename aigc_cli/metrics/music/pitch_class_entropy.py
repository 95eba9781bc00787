"""How evenly the twelve pitch classes are used."""

from __future__ import annotations

import numpy as np

from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric, pitch_classes


class Metric(MusicMetric):
    """Entropy of the pitch classes of the notes."""

    unit = "bits"
    protocol = "entropy of the pitch classes, notes counted, drums left out"

    def compute(self, thing: Music) -> float:
        counts = np.bincount(pitch_classes(thing))
        share = counts[counts > 0] / counts.sum()
        return float(-(share * np.log2(share)).sum())
