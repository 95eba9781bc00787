"""The metrics that compare sets of pictures by their features, by the names that people type."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SetMetric:
    """A number for a set of generated pictures; `smallest` is the least count it is defined for."""

    name: str
    higher_is_better: bool
    protocol: str
    unit: str = ""
    smallest: int = 2
    classes: bool = False
    """Needs an extractor with classes."""
    reference: bool = True
    """Compares with reference pictures."""


_BALLS = "in balls that reach the {nth} nearest other picture"

SET_METRICS: dict[str, SetMetric] = {
    metric.name: metric
    for metric in (
        SetMetric("fid", False, "Frechet distance of Gaussians over pooled features"),
        SetMetric("kid", False, "unbiased MMD^2, cubic kernel, mean of 100 subsets of up to 1000"),
        SetMetric(
            "is", True, "inception score, 10 splits, shuffled", classes=True, reference=False
        ),
        SetMetric("precision", True, _BALLS.format(nth="3rd"), smallest=6),
        SetMetric("recall", True, _BALLS.format(nth="3rd"), smallest=6),
        SetMetric("density", True, _BALLS.format(nth="5th"), smallest=6),
        SetMetric("coverage", True, _BALLS.format(nth="5th"), smallest=6),
        SetMetric(
            "copies",
            False,
            "share nearer to a training picture than 95 % of training pictures to each other",
        ),
        SetMetric(
            "label_accuracy",
            True,
            "share that the extractor's classifier takes for the class asked",
            classes=True,
            reference=False,
        ),
        SetMetric(
            "lpips_diversity",
            True,
            "mean LPIPS 0.1 (AlexNet) of up to 1000 pairs of the first 200",
            reference=False,
        ),
        SetMetric(
            "feature_diversity",
            True,
            "as LPIPS on the extractor's stages without learned weights, up to 1000 pairs of 200",
            reference=False,
        ),
    )
}

SET_GROUPS: dict[str, tuple[str, ...]] = {"prdc": ("precision", "recall", "density", "coverage")}
"""Names that stand for several metrics."""
