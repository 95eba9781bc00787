"""What texts are rewarded for: metrics by name, a regular expression, a length."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.metrics.text import TEXT_METRICS, TextOptions, sentence_scores
from aigc_cli.metrics.text.report import find_metric

Reward = Callable[[Sequence[str], Sequence[Sequence[str]]], list[float]]
"""A number for each text, given the texts it may be like."""


def find_reward(name: str, lang: str) -> Reward:
    """The reward of a name:

        rouge_l, chrf, ...   a metric of `aigc evaluate --metric list`, for each text by itself
        regex:PATTERN        1 where the pattern is found, else 0
        length:N             1 for N characters, falling evenly to 0 for none and for 2 N

    Raises:
        InputError: no such metric, no such pattern or length; MissingError: the metric needs what
            is absent.
    """
    kind, colon, argument = name.partition(":")
    if kind == "regex" and colon:
        return _matching(argument)
    if kind == "length" and colon:
        return _as_long_as(argument)
    options = TextOptions(lang=lang)
    find_metric(name).prepare(options)
    return lambda texts, references: sentence_scores(name, texts, references, options)


def needs_reference(name: str) -> bool:
    """Whether the reward compares with what is asked for."""
    return name in TEXT_METRICS and TEXT_METRICS[name].reference


def _matching(pattern: str) -> Reward:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"regex:{pattern}: no regular expression: {error}") from error
    return lambda texts, references: [float(bool(compiled.search(text))) for text in texts]


def _as_long_as(number: str) -> Reward:
    if not number.isdecimal() or int(number) == 0:
        raise InputError(f"length:{number}: the number of characters is a whole number above 0")
    wanted = int(number)
    return lambda texts, references: [max(0.0, 1 - abs(len(t) / wanted - 1)) for t in texts]


class Rewards:
    """A weighted sum of rewards."""

    def __init__(self, weights: Mapping[str, float], lang: str) -> None:
        self._parts = [(weight, find_reward(name, lang)) for name, weight in weights.items()]

    def __call__(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> Tensor:
        """(N,) float32."""
        total = torch.zeros(len(texts), dtype=torch.float64)
        for weight, reward in self._parts:
            total += weight * torch.tensor(reward(texts, references), dtype=torch.float64)
        return total.float()
