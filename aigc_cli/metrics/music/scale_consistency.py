"""How well the notes fit one scale."""

from __future__ import annotations

import numpy as np

from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import SCALES, MusicMetric, pitch_classes


class Metric(MusicMetric):
    """Largest share of notes in one of 24 scales."""

    unit = "0-1"
    protocol = "largest share of notes in a major or natural minor scale, drums left out"

    def compute(self, thing: Music) -> float:
        classes = pitch_classes(thing)
        return max(
            float(np.isin((classes - root) % 12, scale).mean())
            for scale in SCALES.values()
            for root in range(12)
        )
