"""Metrics of texts: what people call BLEU, ROUGE, METEOR and so on, equal to the usual packages.

`sentence_scores` and `corpus_report` are all that a family, a reward or a command needs.
"""

from aigc_cli.metrics.text._measure import TextOptions
from aigc_cli.metrics.text.report import corpus_report, sentence_scores
from aigc_cli.metrics.text.table import TEXT_GROUPS, TEXT_METRICS

__all__ = ["TEXT_GROUPS", "TEXT_METRICS", "TextOptions", "corpus_report", "sentence_scores"]
