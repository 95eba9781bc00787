"""Filters by hand, search beside the enumeration of all texts, drawing beside the probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from aigc_cli.sampling.decoding import (
    Answer,
    Decoding,
    Job,
    TokenDecoder,
    _search,
    choose,
    decode,
    first_best,
    min_p,
    nucleus,
    penalize_repetition,
    repeating,
    top_k,
)
from aigc_cli.sampling.noise import SampleNoise

V, END = 5, 0


class Markov(TokenDecoder):
    """The next token depends on the last two; each prompt is a state to begin in."""

    def __init__(self, prompts: Sequence[int], source: int = 0) -> None:
        random = torch.Generator().manual_seed(3)
        self.logits = 2 * torch.randn(V, V, V, generator=random)
        self.looks = torch.rand(V, source, generator=random) if source else None
        self.state = torch.tensor([[0, p] for p in prompts])
        self.most_rows = 0

    def step(self, tokens: Tensor | None) -> Tensor:
        if tokens is not None:
            assert len(tokens) == len(self.state)
            self.state = torch.stack([self.state[:, 1], tokens], 1)
        self.most_rows = max(self.most_rows, len(self.state))
        if self.looks is not None:
            self.attention = self.looks[self.state[:, 1]]
        return self.logits[self.state[:, 0], self.state[:, 1]]

    def select(self, rows: Tensor) -> None:
        self.state = self.state[rows]


def spelled(prompt: int, ids: Sequence[int]) -> str:
    return "".join("_abcd"[i] for i in ids)


def write(
    options: Decoding,
    prompts: Sequence[int] = (1, 2, 3),
    *,
    count: int = 1,
    noise: SampleNoise | None = None,
    source: int = 0,
) -> list[list[Answer]]:
    job = Job(len(prompts), stop_ids=[END], text_of=spelled, count=count)
    return decode(Markov(prompts, source), options, job, noise)


def log_p(prompt: int, ids: Sequence[int]) -> float:
    """What the model says of tokens after a prompt."""
    toy, before = Markov([prompt]), (0, prompt)
    total = 0.0
    for token in ids:
        total += float(toy.logits[before].log_softmax(-1)[token])
        before = (before[1], token)
    return total


def all_texts(longest: int) -> list[tuple[int, ...]]:
    """Every text that ends itself or is as long as it may be, END included."""
    inner = range(1, V)
    ended = [(*ids, END) for n in range(longest) for ids in product(inner, repeat=n)]
    return ended + list(product(inner, repeat=longest))


def test_top_k_keeps_the_largest() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0], [0.0, 0.0, 5.0, 1.0]])
    kept = top_k(logits, 2) > -torch.inf
    assert kept.tolist() == [[False, True, True, False], [False, False, True, True]]
    assert torch.equal(top_k(logits, 9), logits)


@pytest.mark.parametrize(
    ("p", "kept"), [(0.5, [0]), (0.51, [0, 1]), (0.8, [0, 1]), (0.81, [0, 1, 2]), (1e-9, [0])]
)
def test_nucleus_keeps_the_fewest_that_reach_p(p: float, kept: list[int]) -> None:
    order = torch.tensor([2, 0, 3, 1])
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()[:, order]
    places = (nucleus(logits.double(), p) > -torch.inf)[0].nonzero()[:, 0]
    assert sorted(order[places].tolist()) == kept


def test_min_p_is_relative_to_the_likeliest() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64).log()
    assert (min_p(logits, 0.29) > -torch.inf).tolist() == [[True, True, True, False]]
    assert (min_p(logits, 0.61) > -torch.inf).tolist() == [[True, False, False, False]]


def test_repetition_penalty_divides_or_multiplies_what_was_written() -> None:
    logits = torch.tensor([[2.0, -2.0, 4.0], [1.0, 1.0, 1.0]])
    made = penalize_repetition(logits, [[0, 1, 1], []], 2.0)
    assert made.tolist() == [[1.0, -4.0, 4.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("written", "n", "banned"),
    [
        ([1, 2, 3, 1, 2], 3, {3}),
        ([1, 2, 3, 1, 2, 4, 1, 2], 3, {3, 4}),
        ([1, 2, 3], 1, {1, 2, 3}),
        ([1, 1], 2, {1}),
        ([1], 3, set()),
        ([], 1, set()),
    ],
)
def test_ngrams_that_would_repeat(written: list[int], n: int, banned: set[int]) -> None:
    assert repeating(written, n) == banned


def test_choice_follows_the_probabilities() -> None:
    logits = torch.tensor([[0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).log()
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    tokens = choose(logits.expand(1000, -1), Decoding(), u)
    assert tokens.bincount().tolist() == [100, 200, 300, 400]
    hot = choose(logits.expand(1000, -1), Decoding(temperature=0.5), u).bincount()
    expected = torch.tensor([1, 4, 9, 16]) / 30 * 1000
    torch.testing.assert_close(hot.double(), expected.double(), rtol=0, atol=1.0)
    assert choose(logits, Decoding(temperature=0), u[:1]).tolist() == [3]
    assert choose(logits - torch.inf, Decoding(), u[:1]).tolist() == [-1]


def test_drawn_texts_have_the_probability_of_the_model() -> None:
    n = 4000
    drawn = write(Decoding(max_tokens=3), [2], count=n, noise=SampleNoise(0, 0, n))[0]
    share = sum(answer.ids == (1,) and answer.finished for answer in drawn) / n
    p = torch.tensor(log_p(2, [1, END])).exp()
    assert abs(share - p) < 4 * (p * (1 - p) / n) ** 0.5
    chi, texts = 0.0, all_texts(3)
    for ids in texts:
        expected = n * float(torch.tensor(log_p(2, ids)).exp())
        ended = ids[-1] == END
        seen = sum(a.ids == (ids[:-1] if ended else ids) and a.finished == ended for a in drawn)
        chi += (seen - expected) ** 2 / expected
    assert chi < len(texts) + 5 * (2 * len(texts)) ** 0.5  # 5 standard deviations


def test_a_text_does_not_depend_on_those_beside_it() -> None:
    options = Decoding(max_tokens=70, min_tokens=20)
    together = write(options, count=2, noise=SampleNoise(7, 0, 6))
    for prompt in range(3):
        noise = SampleNoise(7, 2 * prompt + 1, 1)
        assert write(options, [prompt + 1], noise=noise)[0][0] == together[prompt][1]
    longer = write(Decoding(max_tokens=90, min_tokens=20), count=2, noise=SampleNoise(7, 0, 6))
    for short, long in zip(together[0], longer[0], strict=True):
        assert long.ids[: len(short.ids)] == short.ids


def test_noise_that_is_joined_gives_what_its_parts_would() -> None:
    joined = SampleNoise.joined([SampleNoise(1, 5, 2), SampleNoise(1, 0, 1)])
    parts = [SampleNoise(1, 5, 2), SampleNoise(1, 0, 1)]
    assert torch.equal(joined.rand(3), torch.cat([part.rand(3) for part in parts]))


def test_one_beam_takes_the_likeliest_token() -> None:
    for extra in ({}, {"repetition_penalty": 1.5}, {"no_repeat_ngram": 2}, {"min_tokens": 4}):
        options = Decoding(temperature=0, max_tokens=12, **extra)
        job = Job(3, stop_ids=[END], text_of=spelled)
        beam = _search(Markov([1, 2, 3]), options, job)
        for greedy, found in zip(write(options), beam, strict=True):
            assert (greedy[0].ids, greedy[0].finished) == (found[0].ids, found[0].finished)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.5])
def test_wide_beams_find_what_enumeration_finds(penalty: float) -> None:
    longest = 4
    options = Decoding(beams=V**longest, max_tokens=longest, length_penalty=penalty)
    for prompt, answers in zip((1, 2, 3), write(options, count=5), strict=True):
        scored = [(log_p(prompt, ids) / ((5 + len(ids)) / 6) ** penalty, ids)
                  for ids in all_texts(longest)]  # fmt: skip
        expected = sorted(scored, reverse=True)[:5]
        for answer, (score, ids) in zip(answers, expected, strict=True):
            assert answer.score == pytest.approx(score, abs=1e-4)
            assert answer.ids == (ids[:-1] if ids[-1] == END else ids)
            assert answer.finished == (ids[-1] == END)


@pytest.mark.parametrize("coverage", ["missing", "repeated"])
def test_coverage_counts_where_the_source_was_looked_at(coverage: str) -> None:
    longest, beta = 3, 0.7
    options = Decoding(
        beams=V**longest, max_tokens=longest, length_penalty=0.6, coverage_penalty=beta,
        coverage=coverage,  # type: ignore[arg-type]
    )  # fmt: skip
    toy = Markov([1], source=4)
    assert toy.looks is not None

    def score(ids: tuple[int, ...]) -> float:
        seen = sum((toy.looks[token] for token in (1, *ids[:-1])), torch.zeros(4))  # type: ignore[index]
        cost = -seen.clamp(max=1).log() if coverage == "missing" else seen.clamp(min=1) - 1
        return log_p(1, ids) / ((5 + len(ids)) / 6) ** 0.6 - beta * float(cost.sum())

    expected = sorted(map(score, all_texts(longest)), reverse=True)[:3]
    found = write(options, [1], count=3, source=4)[0]
    assert [answer.score for answer in found] == pytest.approx(expected, abs=1e-4)


def test_searched_texts_do_not_depend_on_those_beside_them() -> None:
    options = Decoding(beams=3, max_tokens=10)
    for prompt, answers in zip((1, 2, 3), write(options, count=2), strict=True):
        assert answers == write(options, [prompt], count=2)[0]


def test_of_equal_candidates_the_first_is_taken_whatever_lies_beside() -> None:
    """topk takes others of equal ones where rows are longer, or more."""
    random = torch.Generator().manual_seed(0)
    for width, k in ((7, 3), (5000, 10), (40, 40)):
        row = torch.randint(0, 3, (width,), generator=random).float()
        row[torch.randint(0, width, (3,), generator=random)] = -torch.inf
        expected = sorted(range(width), key=lambda place, row=row: (-row[place].item(), place))
        wanted = [place for place in expected if row[place] > -torch.inf][:k]
        for beside in (0, 1, 16):
            rows = torch.cat([row[None], torch.rand(beside, width, generator=random)])
            assert first_best(rows, k)[0].tolist() == wanted


def test_beams_of_a_model_that_knows_nothing_take_the_first_tokens() -> None:
    class Even(Markov):
        def step(self, tokens: Tensor | None) -> Tensor:
            return torch.zeros_like(super().step(tokens))

    for prompts in ((1,), (1, 2, 3)):
        job = Job(len(prompts), stop_ids=[END], text_of=spelled, count=2)
        options = Decoding(beams=2, max_tokens=2, min_tokens=2, length_penalty=0)
        for several in decode(Even(prompts), options, job, None):
            assert [answer.ids for answer in several] == [(1, 1), (1, 2)]


@pytest.mark.parametrize("beams", [1, 3])
def test_stops_are_left_out_wherever_tokens_end(beams: int) -> None:
    options = Decoding(temperature=0, beams=beams, max_tokens=12, min_tokens=12)
    for prompt in (1, 2, 3):
        text = write(options, [prompt])[0][0].text
        stop = text[4:6]
        stopped = write(options.model_copy(update={"stop": (stop, "zz")}), [prompt])[0][0]
        assert stopped.finished
        assert stop not in stopped.text
        if beams == 1:
            assert stopped.text == text[: text.index(stop)]


def test_no_ngram_twice_and_no_early_end() -> None:
    for beams in (1, 3):
        options = Decoding(beams=beams, max_tokens=12, min_tokens=8, no_repeat_ngram=2)
        for answers in write(options, noise=SampleNoise(0, 0, 3)):
            ids = answers[0].ids
            pairs = list(pairwise(ids))
            assert len(set(pairs)) == len(pairs)
            assert len(ids) >= 8


def test_rows_that_are_done_leave_the_batch() -> None:
    class Counting(Markov):
        rows = 0

        def step(self, tokens: Tensor | None) -> Tensor:
            self.rows += len(self.state)
            return super().step(tokens)

    toy = Counting([1, 2, 3])
    job = Job(3, stop_ids=[END], text_of=spelled, count=4)
    answers = decode(toy, Decoding(max_tokens=30), job, SampleNoise(0, 0, 12))
    lengths = [min(30, len(a.ids) + a.finished) for group in answers for a in group]
    assert toy.rows == 3 + sum(n - 1 for n in lengths)


def test_where_every_token_is_forbidden_the_text_ends() -> None:
    job = Job(1, stop_ids=[END], text_of=spelled, banned_ids=range(V))
    for beams in (1, 3):
        options = Decoding(temperature=0, beams=beams)
        assert decode(Markov([1]), options, job)[0][0].ids == ()


def test_tokens_are_told_as_they_come() -> None:
    told: list[tuple[int, str]] = []
    job = Job(
        2, stop_ids=[END], text_of=spelled,
        watch=lambda row, ids: told.append((row, spelled(0, ids))),
    )  # fmt: skip
    answers = decode(Markov([1, 3]), Decoding(temperature=0, max_tokens=5), job)
    for row in (0, 1):
        steps = [text for r, text in told if r == row]
        assert steps == [answers[row][0].text[: n + 1] for n in range(len(steps))]
        assert len(steps) == len(answers[row][0].ids)
