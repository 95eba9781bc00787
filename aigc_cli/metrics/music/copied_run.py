"""How long a run of notes is that was learned by heart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aigc_cli.metrics._metric import SetMetric
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.music._runs import longest_runs


class Metric(SetMetric):
    """The longest run of notes that any piece has in common with the training pieces. As many notes
    as held-out pieces share with them are no copy.
    """

    higher_is_better = False
    unit = "notes"
    protocol = (
        "longest run of notes of any piece, in whatever key, that a training piece has too: same "
        "lengths, intervals and distances in time, drums left out"
    )
    smallest = 1
    train = True

    def compute(self, side: Side) -> float:
        return float(self._runs(side).max())

    def notes(self, side: Side) -> list[str]:
        runs = self._runs(side)
        return [f"copied_run: {runs.mean():.1f} notes on average over {len(runs):,} pieces"]

    def _runs(self, side: Side) -> NDArray[np.int64]:
        assert side.train_things is not None
        known = side.train_things
        return side.once(
            "copied_run",
            lambda: longest_runs(
                side.things.read(range(len(side.things))), known.read(range(len(known)))
            ),
        )
