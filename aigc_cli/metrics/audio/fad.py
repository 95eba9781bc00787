"""Fréchet audio distance: Kilgour et al., 2019, https://arxiv.org/abs/1812.08466, in the features
of a classifier of one's own; those of VGGish are not needed, and values are not those of the paper.
"""

from __future__ import annotations

from aigc_cli.metrics._frechet import fid
from aigc_cli.metrics._metric import SetMetric
from aigc_cli.metrics._things import Extractor, Side
from aigc_cli.metrics.audio._mel import MelStatistics
from aigc_cli.metrics.audio._voice import NAME, Voices
from aigc_cli.recipe.sections import Name, Section


class Metric(SetMetric):
    """How far apart two sets of recordings are in the features of a network."""

    higher_is_better = False
    protocol = "Frechet distance of Gaussians over features of whole recordings"

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        extractor: Name = "mel"
        """Whose features are compared: RUN of an audio_classifier; mel, the mean and deviation of
        40 log-mel bands; or resemblyzer, for speech, of `aigc model get resemblyzer`.
        """

    def own_extractor(self, name: str) -> Extractor | None:
        if name == NAME:
            return Voices()
        return MelStatistics() if name == "mel" else None

    def compute(self, side: Side) -> float:
        return fid(*side.pooled)

    def notes(self, side: Side) -> list[str]:
        real, fake = side.pooled
        few, D = min(len(real), len(fake)), fake.shape[1]
        return (
            [f"fad: {few} recordings are fewer than the {D} features, so the value is too large"]
            if few < D
            else []
        )
