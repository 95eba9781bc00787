"""The metrics of texts, by the names that people type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aigc_cli.metrics.text import answers, diversity, meteor, meteor_15, rouge, sacre
from aigc_cli.metrics.text._measure import Measure, Measured, References, TextOptions, Texts


def _bertscore(hyps: Texts, refs: References, options: TextOptions) -> Measured:
    from aigc_cli.metrics.text.bertscore import bertscore

    return bertscore(hyps, refs, options)


def _open_bertscore(options: TextOptions) -> None:
    from aigc_cli.metrics.text.bertscore import open_model

    open_model(options)


@dataclass(frozen=True)
class TextMetric:
    """A number for texts and what they may be like. `prepare` raises at once what `measure` would
    raise for want of a package or model.
    """

    name: str
    higher_is_better: bool
    unit: str
    """The range of the score."""
    protocol: str
    measure: Measure
    words: bool = True
    """Cuts texts into words."""
    reference: bool = True
    prepare: Callable[[TextOptions], object] = lambda options: None


_PERCENT, _SHARE = "0-100", "0-1"

TEXT_METRICS: dict[str, TextMetric] = {
    metric.name: metric
    for metric in (
        TextMetric(
            "bleu", True, _PERCENT, "corpus BLEU of sacreBLEU, 13a or the language's tokenizer",
            sacre.bleu, prepare=sacre.tokenizer,
        ),
        TextMetric("chrf", True, _PERCENT, "corpus chrF2 of sacreBLEU", sacre.chrf, words=False),
        TextMetric(
            "chrfpp", True, _PERCENT, "corpus chrF2++ of sacreBLEU", sacre.chrfpp, words=False
        ),
        TextMetric("ter", False, "%", "corpus TER of sacreBLEU", sacre.ter),
        TextMetric("rouge_1", True, _SHARE, "mean F1 of words, as rouge-score", rouge.rouge("1")),
        TextMetric(
            "rouge_2", True, _SHARE, "mean F1 of pairs of words, as rouge-score", rouge.rouge("2")
        ),
        TextMetric(
            "rouge_l", True, _SHARE, "mean F1 of the longest common subsequence, as rouge-score",
            rouge.rouge("l"),
        ),
        TextMetric(
            "rouge_lsum", True, _SHARE, "the same by sentences, as rouge-score",
            rouge.rouge("lsum"),
        ),
        TextMetric("meteor", True, _SHARE, "mean METEOR of 2007, as NLTK", meteor.meteor),
        TextMetric("meteor_15", True, _SHARE, "corpus METEOR 1.5", meteor_15.meteor_15),
        TextMetric("token_f1", True, _SHARE, "mean F1 of tokens, as SQuAD", answers.token_f1),
        TextMetric(
            "exact_match", True, _SHARE, "share of equal answers, as SQuAD", answers.exact_match
        ),
        TextMetric(
            "distinct_1", True, _SHARE, "different words / words", diversity.distinct(1),
            reference=False,
        ),
        TextMetric(
            "distinct_2", True, _SHARE, "different pairs of words / pairs", diversity.distinct(2),
            reference=False,
        ),
        TextMetric(
            "self_bleu", False, _PERCENT, "mean BLEU of each text with the others as references",
            diversity.self_bleu, reference=False, prepare=sacre.tokenizer,
        ),
        TextMetric(
            "bertscore", True, _SHARE, "mean F1 of cosines in a layer of --extractor FOLDER",
            _bertscore, words=False, prepare=_open_bertscore,
        ),
    )
}  # fmt: skip

TEXT_GROUPS: dict[str, tuple[str, ...]] = {
    "rouge": ("rouge_1", "rouge_2", "rouge_l", "rouge_lsum"),
    "distinct": ("distinct_1", "distinct_2"),
}
"""Names that stand for several metrics."""
