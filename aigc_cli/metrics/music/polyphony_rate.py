"""How often several pitches sound at once."""

from __future__ import annotations

from pydantic import Field

from aigc_cli.errors import DataError
from aigc_cli.media.events import Music
from aigc_cli.metrics.music._music import MusicMetric, sounding
from aigc_cli.recipe.sections import Section


class Metric(MusicMetric):
    """Share of the steps at which several pitches sound."""

    unit = "0-1"
    protocol = (
        "steps with {pitches} pitches or more of all steps up to the last end, drums left out"
    )

    class Options(Section):
        """What several are."""

        pitches: int = Field(2, ge=1, le=128)
        """Least pitches that count; MusPy 0.5 says 2 and takes 3."""

    def compute(self, thing: Music) -> float:
        count = sounding(thing)
        if not len(count):
            raise DataError("a piece has no notes with a pitch")
        return float((count >= self.options.pitches).mean())
