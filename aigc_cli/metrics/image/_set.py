"""What metrics of sets of images share: the network whose features they compare."""

from __future__ import annotations

from typing import Any

from aigc_cli.errors import DataError
from aigc_cli.metrics._metric import SetMetric
from aigc_cli.metrics._things import Side
from aigc_cli.recipe.sections import Name, Section

DIVERSE = 200  # images whose pairs are compared


class FeatureMetric(SetMetric):
    """Looks at images through an extractor."""

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        extractor: Name = "inception"
        """Whose features are compared: inception, inception:clean, RUN of a classifier, vgg16,
        random:cnn.
        """


def first_images(side: Side) -> list[Any]:
    """The first images of the set, all of one size, (C, H, W) each.

    Raises:
        DataError: their sizes differ.
    """
    images: list[Any] = list(side.things.read(range(min(DIVERSE, len(side.things)))))
    if len({image.shape for image in images}) > 1:
        raise DataError("diversity needs images of one size")
    return images
