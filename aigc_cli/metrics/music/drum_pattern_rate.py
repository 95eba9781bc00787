"""How many drums fall on the beat: DP of MuseGAN (Dong et al., 2018,
https://arxiv.org/abs/1709.06298).
"""

from __future__ import annotations

from pydantic import Field

from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, Music
from aigc_cli.metrics.music._music import MusicMetric
from aigc_cli.recipe.sections import Section


class Metric(MusicMetric):
    """Share of the drum hits that fall on an even division of the bar."""

    unit = "0-1"
    protocol = "hits at multiples of 1 / {parts} of 4 quarters from the beginning of their bar"

    class Options(Section):
        """What is on the beat."""

        parts: int = Field(8, ge=1, le=96)
        """Parts of four quarters; MuseGAN counts hits in patterns of 8 or of 16."""

    def compute(self, thing: Music) -> float:
        hits = thing.notes[thing.notes[:, 3] == INSTRUMENTS - 1, 0]
        if not len(hits):
            raise DataError("a piece has no drums")
        return float(
            (hits % thing.steps_per_bar * self.options.parts % (4 * thing.resolution) == 0).mean()
        )
