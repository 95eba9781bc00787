"""How alike two sets of pieces are: Yang and Lerch, 2020, see _features.py."""

from __future__ import annotations

from aigc_cli.metrics._metric import SetMetric
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.music._features import compared


class Metric(SetMetric):
    """Area that the distances within the set and those to the real set share, over 11 features."""

    higher_is_better = True
    unit = "0-1"
    protocol = (
        "mean over 11 features of the overlap of distances within the set and to the real one"
    )

    def compute(self, side: Side) -> float:
        found = compared(side)
        return sum(overlap for overlap, _ in found.values()) / len(found)

    def notes(self, side: Side) -> list[str]:
        each = [f"{name} {overlap:.2f}" for name, (overlap, _) in compared(side).items()]
        return [f"overlap: {', '.join(each)}"]
