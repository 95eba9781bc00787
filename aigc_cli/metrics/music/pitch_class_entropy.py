"""How evenly the twelve pitch classes are used."""

from __future__ import annotations

from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric, entropy, pitch_classes


class Metric(MusicMetric):
    """Entropy of the pitch classes of the notes."""

    unit = "bits"
    protocol = "entropy of the pitch classes, notes counted, drums left out"

    def compute(self, thing: Music) -> float:
        return entropy(pitch_classes(thing))
