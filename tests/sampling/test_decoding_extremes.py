"""Decoding where numbers leave float32: temperatures of 1e-40, infinite logits, huge penalties."""

from __future__ import annotations

from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from aigc_cli.errors import RunError
from aigc_cli.sampling.decoding import Decoding, Job, TokenDecoder, choose, decode, nucleus, usable
from aigc_cli.sampling.noise import SampleNoise

ORDINARY = st.floats(-60, 60, width=32)
EXTREME = st.sampled_from([-inf, inf, 0.0, -3e38, 3e38, 1e-40, -1e-40])
ROWS = st.lists(ORDINARY | EXTREME, min_size=2, max_size=7)
UNIFORM = st.sampled_from([0.0, 0.5, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True)
OPTIONS = st.builds(
    Decoding,
    max_tokens=st.just(6),
    temperature=st.sampled_from([0.0, 5e-324, 1e-300, 1e-40, 1e-8, 0.7, 1.0, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 50]),
    top_p=st.sampled_from([5e-324, 1e-300, 1e-9, 0.3, 1 - 1e-12, 1.0]),
    min_p=st.sampled_from([0.0, 1e-300, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([1e-300, 0.5, 1.0, 1.3, 1e300]),
    no_repeat_ngram=st.sampled_from([0, 1, 2]),
    beams=st.sampled_from([1, 1, 2]),
    length_penalty=st.sampled_from([0.0, 0.6, 10.0]),
)


@given(ROWS, OPTIONS, UNIFORM)
def test_what_is_chosen_is_allowed(row: list[float], options: Decoding, u: float) -> None:
    logits = torch.tensor([row])
    chosen = int(choose(usable(logits), options, torch.tensor([u], dtype=torch.float64)))
    if max(row) == -inf:
        assert chosen == -1
    else:
        assert logits[0, chosen] > -inf
        assert max(row) < inf or logits[0, chosen] == inf


@given(ROWS.filter(lambda row: max(row) > -inf), UNIFORM)
@pytest.mark.parametrize(
    "cold", [{"temperature": 5e-324}, {"temperature": 1e-40}, {"top_k": 1}, {"top_p": 5e-324},
             {"top_p": 1e-9}, {"min_p": 1.0}],
)  # fmt: skip
def test_the_coldest_settings_take_one_of_the_likeliest(
    cold: dict[str, float], row: list[float], u: float
) -> None:
    logits = torch.tensor([row])
    chosen = int(choose(usable(logits), Decoding(**cold), torch.tensor([u], dtype=torch.float64)))  # type: ignore[arg-type]
    best = logits.max()
    # What is less than 1e-6 apart may be equal as a probability in float32.
    assert best - logits[0, chosen] <= 1e-6 * max(1, best.abs()) or best == inf == logits[0, chosen]


@given(ROWS, st.sampled_from([5e-324, 1e-300, 1e-40, 1e-9]))
def test_a_nucleus_has_a_token(row: list[float], p: float) -> None:
    logits = usable(torch.tensor([row]))
    assert ((nucleus(logits, p) > -inf).sum() >= 1) == (max(row) > -inf)


class Fixed(TokenDecoder):
    """Says the same at every step."""

    def __init__(self, row: list[float]) -> None:
        self.row, self.rows = torch.tensor(row), 1

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            self.rows = len(tokens)
        return self.row.expand(self.rows, -1)

    def select(self, rows: Tensor) -> None:
        self.rows = len(rows)


@given(ROWS, OPTIONS)
def test_every_text_ends_and_every_setting_writes(row: list[float], options: Decoding) -> None:
    job = Job(1, [0], lambda prompt, ids: " ".join(map(str, ids)), count=options.beams)
    ((answer, *_),) = decode(Fixed(row), options, job, SampleNoise(0, 0, options.beams))
    assert len(answer.ids) <= 6
    assert all(0 < token < len(row) for token in answer.ids)


def test_a_cold_model_ends_as_a_greedy_one_does() -> None:
    """At 1e-40 every token was the first of the vocabulary, without end."""
    job = Job(1, [2], lambda prompt, ids: "", count=1)
    for temperature in (0.0, 1e-40):
        options = Decoding(max_tokens=50, temperature=temperature)
        ((answer,),) = decode(Fixed([0.3, 0.1, 0.5]), options, job, SampleNoise(0, 0, 1))
        assert (answer.ids, answer.finished) == ((), True)


def test_weights_that_give_nan_are_one_sentence() -> None:
    job = Job(1, [0], lambda prompt, ids: "")
    for beams in (1, 2):
        with pytest.raises(RunError, match="gives NaN instead of probabilities"):
            decode(Fixed([0.1, nan]), Decoding(beams=beams), job, SampleNoise(0, 0, 1))
