"""How many pitches sound at once."""

from __future__ import annotations

from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric, sounding


class Metric(MusicMetric):
    """Mean number of pitches at the steps at which one sounds."""

    unit = "pitches"
    protocol = "mean of the pitches that sound at a step, over steps with one; drums left out"

    def compute(self, thing: Music) -> float:
        count = sounding(thing)
        if not count.any():
            raise DataError("a piece has no notes with a pitch")
        return float(count[count > 0].mean())
