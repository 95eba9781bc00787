"""How unlike two sets of pieces are: Yang and Lerch, 2020, see _features.py."""

from __future__ import annotations

from aigc_cli.metrics._metric import SetMetric
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.music._features import compared


class Metric(SetMetric):
    """Divergence of the distances within the set from those to the real set, over 11 features."""

    higher_is_better = False
    unit = "nats"
    protocol = (
        "mean over 11 features of KL of distances within the set and to the real one, on one grid"
    )

    def compute(self, side: Side) -> float:
        found = compared(side)
        return sum(divergence for _, divergence in found.values()) / len(found)

    def notes(self, side: Side) -> list[str]:
        each = [f"{name} {divergence:.2f}" for name, (_, divergence) in compared(side).items()]
        return [f"overlap_kl: {', '.join(each)}"]
