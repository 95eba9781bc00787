"""Share of generated images inside the manifold of real ones."""

from __future__ import annotations

from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image.prdc import Balls


class Metric(Balls):
    of = "set"
    higher_is_better = True
    protocol = "in balls that reach the 3rd nearest other image"

    def compute(self, side: Side) -> float:
        return self.found(side).precision
