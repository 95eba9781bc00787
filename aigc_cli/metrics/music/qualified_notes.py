"""How many notes are no fragments: QN of MuseGAN (Dong et al., 2018,
https://arxiv.org/abs/1709.06298).
"""

from __future__ import annotations

from pydantic import Field

from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, Music
from aigc_cli.metrics.music._music import MusicMetric
from aigc_cli.recipe.sections import Section


class Metric(MusicMetric):
    """Share of the notes that are not too short."""

    unit = "0-1"
    protocol = "notes of at least {quarters} quarters, drums left out; 1 on a grid of such steps"

    class Options(Section):
        """What is too short."""

        quarters: float = Field(0.125, gt=0, le=16)
        """Least length of a note; MuseGAN takes a thirty-second."""

    def compute(self, thing: Music) -> float:
        notes = thing.notes[thing.notes[:, 3] != INSTRUMENTS - 1]
        if not len(notes):
            raise DataError("a piece has no notes with a pitch")
        return float((notes[:, 1] / thing.resolution >= self.options.quarters - 1e-9).mean())
