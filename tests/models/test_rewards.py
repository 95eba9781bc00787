"""Rewards by hand, and what is said of wrong names."""

from __future__ import annotations

import pytest
import torch

from aigc_cli.errors import InputError
from aigc_cli.metrics.find import open_metrics
from aigc_cli.metrics.report import item_scores
from aigc_cli.models.text._rewards import Rewards, find_reward, needs_reference

TEXTS = ["the cat sat", "no", ""]
REFERENCES = [["the cat sat down"], ["yes", "no"], ["x"]]


def test_a_pattern_is_found_anywhere() -> None:
    assert find_reward("regex:^the|o$", "en")(TEXTS, REFERENCES) == [1.0, 1.0, 0.0]
    assert find_reward("regex::", "en")(["a: b"], [[]]) == [1.0]


def test_a_length_is_best_met() -> None:
    values = find_reward("length:4", "en")(["", "a", "abcd", "abcdef", "x" * 9], [[]] * 5)
    assert values == [0.0, 0.25, 1.0, 0.5, 0.0]


def test_metrics_are_those_of_evaluation() -> None:
    reward = find_reward("rouge_l", "en")
    assert reward(TEXTS, REFERENCES) == item_scores(open_metrics(["rouge_l"])[0], TEXTS, REFERENCES)
    assert reward(TEXTS, REFERENCES)[1] == 1.0
    assert needs_reference("rouge_l")
    assert not needs_reference("distinct_1")
    assert not needs_reference("length:4")


def test_rewards_are_summed_by_weight() -> None:
    rewards = Rewards({"regex:cat": 2.0, "length:2": -0.5}, "en")
    torch.testing.assert_close(rewards(TEXTS, REFERENCES), torch.tensor([2.0, -0.5, 0.0]))


@pytest.mark.parametrize(
    "name, said",
    [
        ("rouge_x", "unknown metric 'rouge_x'"),
        ("regex:(", "regex:(: no regular expression"),
        ("length:many", "length:many: the number of characters"),
        ("length:0", "length:0: the number of characters"),
    ],
)
def test_wrong_names_are_said(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        find_reward(name, "en")
    assert said in str(caught.value)
