"""How far a tune goes from one note to the next."""

from itertools import pairwise

from aigc_cli.metrics._metric import ItemMetric


class Metric(ItemMetric):
    """Mean interval."""

    higher_is_better = False
    unit = "semitones"
    protocol = "mean distance of neighboring notes"

    def compute(self, thing):
        steps = [abs(int(b) - int(a)) for a, b in pairwise(thing)]
        return sum(steps) / len(steps)
