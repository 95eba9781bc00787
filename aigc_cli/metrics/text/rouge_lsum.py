"""ROUGE-Lsum: the longest common subsequences of sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from aigc_cli.metrics.text.rouge import (
    Overlap,
    Rouge,
    RougeOptions,
    Tokenize,
    Tokens,
    rouge_lsum,
    sentences,
)


class Metric(Rouge):
    of = "corpus"
    higher_is_better = True
    unit = "0-1"
    protocol = "the same by sentences, as rouge-score"

    class Options(RougeOptions):
        """What `METRIC.KEY=VALUE` may set."""

        split: Literal["newline", "sentence"] = "newline"
        """Where a text is cut into sentences: at line ends, or also behind full stops."""

    def prepared(self, text: str, tokens: Tokenize) -> list[list[str]]:
        return [tokens(sentence) for sentence in sentences(text, self.options.split)]

    def score(self, target: Sequence[Tokens], pred: Sequence[Tokens]) -> Overlap:
        return rouge_lsum(target, pred)
