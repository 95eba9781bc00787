"""Texts as people and models write them: empty, of several scripts, with marks and emoji."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from aigc_cli.metrics._metric import Metric
from aigc_cli.metrics.find import open_metrics
from aigc_cli.metrics.report import corpus_report, item_scores

_LATIN = "the cat sat on mats running ran happily quickly a dogs' don't 4.5 1,000 café états Mr."
_OTHERS = "— … “quoted” &amp; ( ) . , ! ? : -- x-ray 中文 東京 ありがとう カタカナ 한국어 привет"
_RARE = "😀 👍🏽 👩\u200d👩\u200d👧 e\u0301 \ufb01 İ ß 你好。 line\u2028break"
patient = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # a busy machine is no mistake
LATIN = _LATIN.split()
WORDS = [*LATIN, *_OTHERS.split(), *_RARE.split(" ")]

texts = st.one_of(
    st.just(""),
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(alphabet="ab c.\n中文😀é-'", max_size=20),
)
latin_texts = st.lists(st.sampled_from(LATIN), max_size=12).map(" ".join)


def corpus(count: int, seed: int, words: list[str] | None = None) -> list[str]:
    """Random texts; every tenth one or so is empty."""
    rng = random.Random(seed)
    lengths = [0, 1, 2, 5, 9, 14, 20]
    return [
        " ".join(rng.choice(words or WORDS) for _ in range(rng.choice(lengths)))
        for _ in range(count)
    ]


def noisy(texts: list[str], seed: int, rate: float) -> list[str]:
    """The same texts with words left out or doubled."""
    rng = random.Random(seed)
    found = []
    for text in texts:
        words = [
            word
            for word in text.split(" ")
            for _ in range(rng.choice([0, 2]) if rng.random() < rate else 1)
        ]
        found.append(" ".join(words))
    return found


def opened(name: str, **options: object) -> Metric:
    """A metric with those of the options that it has."""
    [metric] = open_metrics([name], defaults=options)
    return metric


def measure(name: str, preds: list[str], refs: Sequence[Sequence[str]], **options: object) -> Any:
    metric = opened(name, **options)
    metric.prepare()
    return metric.compute(preds, refs)


def scores(
    name: str, preds: list[str], refs: Sequence[Sequence[str]], **options: object
) -> list[float]:
    return item_scores(opened(name, **options), preds, refs)


def report(
    names: Sequence[str], preds: list[str], refs: Sequence[Sequence[str]],
    baseline: list[str] | None = None, **options: object,
) -> dict[str, Any]:  # fmt: skip
    metrics = open_metrics(names, defaults=options)
    return corpus_report(metrics, preds, refs, baseline=baseline)
