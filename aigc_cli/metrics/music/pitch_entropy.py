"""How evenly the pitches are used."""

from __future__ import annotations

from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric, entropy, pitches


class Metric(MusicMetric):
    """Entropy of the pitches of the notes."""

    unit = "bits"
    protocol = "entropy of the pitches, notes counted, drums left out"

    def compute(self, thing: Music) -> float:
        return entropy(pitches(thing))
