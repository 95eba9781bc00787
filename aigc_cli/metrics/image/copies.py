"""Share of generated images that are nearer to a training image than real ones are."""

from __future__ import annotations

from aigc_cli.errors import InputError
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._neighbors import Copies, copies
from aigc_cli.metrics.image._set import FeatureMetric

NEIGHBORS = 5  # of each image that are found


def found(side: Side) -> Copies:
    """The nearest training images of each generated one."""
    train = side.train
    assert train is not None
    return side.once("copies", lambda: copies(train.pooled, side.pooled[1], k=NEIGHBORS))


class Metric(FeatureMetric):
    of = "set"
    higher_is_better = False
    protocol = "share nearer to a training image than 95 % of training images to each other"
    train = True

    def compute(self, side: Side) -> float:
        return found(side).share

    def check(self, side: Side) -> None:
        if side.train_things is None or len(side.train_things) < 2:
            raise InputError("copies: there are no training images to compare with")
