"""Whether a classifier takes generated images for the class that was asked for."""

from __future__ import annotations

import torch

from aigc_cli.errors import InputError
from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._set import FeatureMetric


class Metric(FeatureMetric):
    of = "set"
    higher_is_better = True
    protocol = "share that the extractor's classifier takes for the class asked"
    reference = False
    classes = True

    def compute(self, side: Side) -> float:
        assert self.extractor is not None
        known, classes = self.extractor.labels or (), side.classes or ()
        number = torch.tensor([known.index(name) for name in classes])
        asked = side.things.labels(range(len(side.things)))
        return float((side.logits.argmax(1) == number[asked]).double().mean())

    def check(self, side: Side) -> None:
        assert self.extractor is not None
        if side.classes is None or side.things.labels([0]) is None:
            raise InputError("label_accuracy needs a model that is told which class to make")
        known = self.extractor.labels
        if known is None:
            raise InputError(
                f"label_accuracy: {self.extractor.stamp} does not know the classes of the model",
                hint="take the run of a classifier trained on the same classes as extractor",
            )
        if unknown := [name for name in side.classes if name not in known]:
            raise InputError(
                f"label_accuracy: the classifier does not know the class '{unknown[0]}'",
                hint=f"it knows: {', '.join(known)}",
            )
