"""What texts are rewarded for: metrics by name, a class, a regular expression, a length."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import model_validator
from torch import Tensor

from aigc_cli import registry
from aigc_cli.errors import InputError, did_you_mean
from aigc_cli.metrics.find import find_metric, members, open_metrics
from aigc_cli.metrics.report import item_scores
from aigc_cli.models._classifier import Judge
from aigc_cli.models._text import TextModule
from aigc_cli.recipe.sections import Name, Section

Reward = Callable[[Sequence[str], Sequence[Sequence[str]]], list[float]]
"""A number for each text, given the texts it may be like."""


class JudgedConfig(Section):
    """Which classifier tells whether texts are of a class."""

    classifier: Name = "none"
    """Run or checkpoint of family text_classifier whose classes the rewards class:NAME are about.
    """

    @model_validator(mode="after")
    def _classes_have_a_classifier(self) -> JudgedConfig:
        asked = classes_of(self)
        if asked and self.classifier == "none":
            raise ValueError(f"the reward class:{asked[0]} needs model.classifier")
        if self.classifier != "none" and not asked:
            raise ValueError("model.classifier is named, but no reward is class:NAME")
        return self


def classes_of(config: Any) -> list[str]:
    """The classes that a section with `rewards` and `unrewarded` asks for."""
    names = (*config.rewards, config.unrewarded)
    return [name.removeprefix(CLASS) for name in names if name.startswith(CLASS)]


CLASS = "class:"


class JudgedModule(TextModule):
    """Has the classifier that its recipe names. It is neither trained nor averaged and no part of
    the weights.
    """

    frozen: ClassVar[Mapping[str, str]] = {"judge": "classifier"}

    @property
    def judge(self) -> Judge | None:
        """On the device of the model; None where nothing is rewarded for a class."""
        judge: Judge | None = self.frozen_networks.get("judge")
        if judge is not None:
            judge.model.to(self.device)
        return judge

    def suited(self, judge: Judge) -> Judge:
        """
        Raises:
            InputError: a class that is rewarded is none of it.
        """
        for label in classes_of(self.config):
            if label not in judge.labels:
                raise InputError(
                    f"class:{label}: {judge.stamp} knows no such class",
                    hint=did_you_mean(label, judge.labels),
                )
        return judge

    def rewards_of(self, weights: Mapping[str, float], lang: str) -> Rewards:
        """The sum of rewards, of which some may ask the classifier."""
        return Rewards(weights, lang, lambda: self.judge)


def find_reward(name: str, lang: str, judge: Callable[[], Judge | None] = lambda: None) -> Reward:
    """The reward of a name:

        rouge_l, chrf, ...   a metric of `aigc evaluate --metric list`, for each text by itself
        regex:PATTERN        1 where the pattern is found, else 0
        class:NAME           how likely the text is of the class, says the classifier
        length:N             1 for N characters, falling evenly to 0 for none and for 2 N

    Raises:
        InputError: no such metric, no such pattern or length; MissingError: the metric needs what
            is absent.
    """
    kind, colon, argument = name.partition(":")
    if kind == "regex" and colon:
        return _matching(argument)
    if kind == "class" and colon:
        return _of_class(argument, judge)
    if kind == "length" and colon:
        return _as_long_as(argument)
    if members(name):
        raise InputError(
            f"reward {name}: which one is meant?", hint=f"choose from: {', '.join(members(name))}"
        )
    [metric] = open_metrics([name], defaults={"lang": lang})
    if metric.of == "set" or registry.metrics()[name].modality != "text":
        raise InputError(f"reward {name}: is no measure of single texts")
    metric.prepare()
    return lambda texts, references: item_scores(metric, texts, references)


def needs_reference(name: str) -> bool:
    """Whether the reward compares with what is asked for."""
    return name in registry.metrics() and find_metric(name).reference


def _matching(pattern: str) -> Reward:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"regex:{pattern}: no regular expression: {error}") from error
    return lambda texts, references: [float(bool(compiled.search(text))) for text in texts]


def _of_class(label: str, judge: Callable[[], Judge | None]) -> Reward:
    def reward(texts: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        found = judge()
        if found is None:
            raise RuntimeError("no classifier was attached")
        return found.probabilities(label, texts)

    return reward


def _as_long_as(number: str) -> Reward:
    if not number.isdecimal() or int(number) == 0:
        raise InputError(f"length:{number}: the number of characters is a whole number above 0")
    wanted = int(number)
    return lambda texts, references: [max(0.0, 1 - abs(len(t) / wanted - 1)) for t in texts]


class Rewards:
    """A weighted sum of rewards."""

    def __init__(
        self,
        weights: Mapping[str, float],
        lang: str,
        judge: Callable[[], Judge | None] = lambda: None,
    ) -> None:
        self._parts = [(weight, find_reward(name, lang, judge)) for name, weight in weights.items()]

    def __call__(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> Tensor:
        """(N,) float32."""
        total = torch.zeros(len(texts), dtype=torch.float64)
        for weight, reward in self._parts:
            total += weight * torch.tensor(reward(texts, references), dtype=torch.float64)
        return total.float()
