"""How far apart the lowest and the highest note are."""

from __future__ import annotations

from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric, pitches


class Metric(MusicMetric):
    """Semitones from the lowest pitch to the highest."""

    unit = "semitones"
    protocol = "highest less lowest pitch, drums left out"

    def compute(self, thing: Music) -> float:
        found = pitches(thing)
        return float(found.max() - found.min())
