"""LPIPS's formula with all weights 1, in whatever network the option `extractor` names."""

from __future__ import annotations

from aigc_cli.media.image import to_tensor
from aigc_cli.metrics.image._pair import ImagePair, Pixels
from aigc_cli.recipe.sections import Name, Section


class Metric(ImagePair):
    of = "pair"
    higher_is_better = False
    protocol = "as LPIPS on the extractor's stages without learned weights, RGB, 8 bit"

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        extractor: Name = "imagenet"
        """The network: imagenet (EfficientNet-Lite0), vgg16, random:vgg16, random:cnn, RUN of a
        classifier, inception.
        """

    def describe(self) -> str:
        seen_by = "the extractor" if self.extractor is None else self.extractor.stamp
        return f"as LPIPS without learned weights, stages of {seen_by}, RGB, 8 bit, whole image"

    def formula(self, preds: Pixels, target: Pixels) -> float:
        assert self.extractor is not None
        return float(self.extractor.distance(*(to_tensor(p)[None] for p in (preds, target))))
