"""How different generated images are from each other, in the network of the extractor."""

from __future__ import annotations

import torch

from aigc_cli.metrics._things import Side
from aigc_cli.metrics.image._diversity import mean_distance
from aigc_cli.metrics.image._set import FeatureMetric, first_images
from aigc_cli.recipe.sections import Name, Section


class Metric(FeatureMetric):
    of = "set"
    higher_is_better = True
    protocol = "as LPIPS on the extractor's stages without learned weights, up to 1000 pairs of 200"
    reference = False

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        extractor: Name = "imagenet"
        """As of perceptual."""

    def compute(self, side: Side) -> float:
        assert self.extractor is not None
        images = first_images(side)
        return mean_distance(torch.stack(images), self.extractor.distance)
