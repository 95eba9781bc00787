"""How a model that gives the next token writes whole texts: one implementation for every family.

Greedy, drawn at random (with top-k of Fan et al., 2018, https://arxiv.org/abs/1805.04833; nucleus
of Holtzman et al., 2020, https://arxiv.org/abs/1904.09751; min-p of Nguyen et al., 2024,
https://arxiv.org/abs/2407.01082; the repetition penalty of Keskar et al., 2019,
https://arxiv.org/abs/1909.05858), or the likeliest by beam search with the length and coverage
penalties of Wu et al., 2016, https://arxiv.org/abs/1609.08144, section 7, and no repeated n-grams
(Paulus et al., 2018, https://arxiv.org/abs/1705.04304).

Letters: R rows being written, V tokens, P prompts, K beams of each, S positions of a source.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import RunError
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.sampling.noise import SampleNoise

SMALLEST, LARGEST = 1e-30, 1e30  # of numbers that others are divided by in float32
DRAWS = 64  # random numbers of a row that are drawn at once
BEAMS = 1000


class TokenDecoder(ABC):
    """A model that has read its prompts, one row each, and keeps what it has computed (a cache)."""

    attention: Tensor | None = None
    """Where the last step looked in the source, (R, S), for the coverage penalty; 0 at padding."""
    longest: int | None = None
    """Tokens that can be written at most, where the model has such a limit."""

    @abstractmethod
    def step(self, tokens: Tensor | None) -> Tensor:
        """Logits (R, V) of the next token: right after the prompts (None), then after `tokens`
        (R,) were chosen.
        """

    @abstractmethod
    def select(self, rows: Tensor) -> None:
        """Keep these rows (R',) of the state, in this order and possibly several times: beams that
        move, samples that multiply, rows that are done.
        """


class Decoding(Section):
    """How texts are written; base of the `Options` of families that write texts."""

    TINY: ClassVar[Mapping[str, Any]] = {"max_tokens": 6}

    max_tokens: int = Field(256, gt=0)
    """Longest text, in tokens."""
    min_tokens: int = Field(0, ge=0)
    """Tokens before which a text may not end."""
    temperature: float = Field(1.0, ge=0, le=100)
    """0 always takes the likeliest token; 1 draws from the model's probabilities."""
    top_k: int = Field(0, ge=0)
    """Draw from this many likeliest tokens only; 0 from all."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Draw from the fewest likeliest tokens that have this probability together."""
    min_p: float = Field(0.0, ge=0, le=1)
    """Draw from tokens with at least this part of the probability of the likeliest only."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Above 1 makes tokens that were written already less likely."""
    no_repeat_ngram: int = Field(0, ge=0)
    """No sequence of so many tokens is written twice; 0 allows it."""
    stop: tuple[Name, ...] = ()
    """Texts that end the answer; they are left out of it."""
    beams: int = Field(1, gt=0, le=BEAMS)
    """Above 1: search for the likeliest text with so many beams instead of drawing."""
    length_penalty: float = Field(0.6, ge=0, le=10)
    """beams: scores are divided by ((5 + tokens) / 6) to this power; above 0 favors long texts."""
    coverage_penalty: float = Field(0.0, ge=0, le=1000)
    """beams: weight of the penalty on source positions that get no attention or too much."""
    coverage: Literal["missing", "repeated"] = "missing"
    """beams: `missing` judges finished texts by what was never looked at (Wu et al.); `repeated`
    every beam by what was looked at more than once, as fits summaries.
    """
    on_error: Literal["report", "skip"] = "report"
    """A prompt that cannot be read, such as one that is too long, gets an empty text with its
    `error`, and the others are answered; with report the command then ends with exit code 2.
    """


@dataclass(frozen=True)
class Answer:
    """A text as it was written."""

    ids: tuple[int, ...]
    """Tokens, without the one that ended the text."""
    text: str
    finished: bool
    """Whether it ended by itself and was not cut at the largest length."""
    score: float | None = None
    """Of beam search: log-probability with its penalties."""


@dataclass(frozen=True)
class Job:
    """What `decode` must know beside the model and the options."""

    prompts: int
    stop_ids: Sequence[int]
    """Tokens that end a text."""
    text_of: Callable[[int, Sequence[int]], str]
    """The text of tokens that answer prompt number p."""
    banned_ids: Sequence[int] = ()
    """Tokens that are never written, such as padding."""
    count: int = 1
    """Answers to each prompt."""
    watch: Callable[[int, Sequence[int]], None] | None = None
    """Told the row and all its tokens after each token; not by beam search."""


@torch.no_grad()
def decode(
    decoder: TokenDecoder, options: Decoding, job: Job, noise: SampleNoise | None = None
) -> list[list[Answer]]:
    """`job.count` answers to each prompt, in order; by beam search the best first.

    Row `p * count + i` of the noise draws answer i to prompt p, so a text does not depend on those
    beside it; greedy decoding and beam search need none.

    Raises:
        ValueError: more answers than beams, or tokens drawn without noise.
    """
    if options.beams > 1:
        if job.count > options.beams:
            raise ValueError(f"{options.beams} beams have no {job.count} answers")
        return _search(decoder, options, job)
    if options.temperature > 0 and noise is None:
        raise ValueError("drawing tokens takes noise")
    return _draw(decoder, options, job, noise)


# What may be drawn, as pure functions of logits (R, V).


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep the k largest, and what is equal to the least of them; the others become -inf."""
    least = logits.topk(min(k, logits.shape[-1])).values[:, -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def nucleus(logits: Tensor, p: float) -> Tensor:
    """Keep the fewest tokens whose probability reaches p, at least one; the others become -inf."""
    ordered, place = logits.sort(dim=-1, descending=True, stable=True)
    probability = ordered.softmax(-1)
    beyond = probability.cumsum(-1) - probability >= p
    beyond[:, 0] = False  # also where p is 0 in float32
    return logits.masked_fill(beyond.scatter(-1, place, beyond), -torch.inf)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens with at least p times the probability of the likeliest."""
    probability = logits.softmax(-1)
    return logits.masked_fill(probability < p * probability.amax(-1, keepdim=True), -torch.inf)


def penalize_repetition(logits: Tensor, written: Sequence[Sequence[int]], penalty: float) -> Tensor:
    """Divide the logits of tokens that a row has by the penalty, or multiply them if negative."""
    penalty = min(max(penalty, SMALLEST), LARGEST)
    logits = logits.clone()
    for row, ids in zip(logits, written, strict=True):
        seen = torch.tensor(sorted(set(ids)), dtype=torch.int64, device=logits.device)
        values = row[seen]
        row[seen] = torch.where(values > 0, values / penalty, values * penalty)
    return logits


def repeating(written: Sequence[int], n: int) -> set[int]:
    """Tokens that would complete a sequence of n tokens which is there already."""
    begin = tuple(written[len(written) - n + 1 :]) if n > 1 else ()
    if len(begin) < n - 1:
        return set()
    return {
        written[i + n - 1]
        for i in range(len(written) - n + 1)
        if tuple(written[i : i + n - 1]) == begin
    }


def choose(logits: Tensor, options: Decoding, uniform: Tensor | None) -> Tensor:
    """A token (R,) for each row: the likeliest, or the one that a number (R,) in [0, 1) falls on
    when tokens lie side by side, each as wide as it is likely. -1 where none is allowed.
    """
    best, likeliest = logits.max(-1)
    none = best == -torch.inf
    if options.temperature == 0 or uniform is None:
        return likeliest.masked_fill(none, -1)
    # Relative to the best, so that the coldest temperature leaves a 0 and never inf - inf.
    logits = (logits - best.masked_fill(none, 0)[:, None]).float()
    logits = logits / max(options.temperature, SMALLEST)
    if options.top_k:
        logits = top_k(logits, options.top_k)
    if options.top_p < 1:
        logits = nucleus(logits, options.top_p)
    if options.min_p > 0:
        logits = min_p(logits, options.min_p)
    ends = logits.softmax(-1).double().cumsum(-1)
    place = uniform.to(ends.device)[:, None] * ends[:, -1:]
    tokens = torch.searchsorted(ends, place, right=True)[:, 0]
    return tokens.clamp(max=logits.shape[-1] - 1).masked_fill(none, -1)


def usable(logits: Tensor) -> Tensor:
    """Logits (R, V) of which softmax knows what to make: tokens at +inf share all probability.

    Raises:
        RunError: a model gives NaN; no text could follow.
    """
    if logits.amax() < torch.inf:
        return logits
    if logits.isnan().any():
        raise RunError(
            "the model gives NaN instead of probabilities: its weights are damaged or diverged",
            hint="sample from an earlier checkpoint",
        )
    certain = logits == torch.inf
    shared = torch.zeros_like(logits).masked_fill(~certain, -torch.inf)
    return torch.where(certain.any(-1, keepdim=True), shared, logits)


def _allowed(
    logits: Tensor, written: Sequence[Sequence[int]], options: Decoding, job: Job
) -> Tensor:
    """Logits after what the options say of the tokens written so far, all rows equally long."""
    if options.repetition_penalty != 1:
        logits = penalize_repetition(logits, written, options.repetition_penalty)
    banned = list(job.banned_ids)
    if len(written[0]) < options.min_tokens:
        banned += job.stop_ids
    if banned:
        logits = logits.index_fill(1, torch.tensor(banned, device=logits.device), -torch.inf)
    if n := options.no_repeat_ngram:
        pairs = [(row, id) for row, ids in enumerate(written) for id in repeating(ids, n)]
        if pairs:
            rows, ids = torch.tensor(pairs, device=logits.device).T
            logits = logits.index_put((rows, ids), logits.new_tensor(-torch.inf))
    return logits


# Token by token.


def _draw(
    decoder: TokenDecoder, options: Decoding, job: Job, noise: SampleNoise | None
) -> list[list[Answer]]:
    """Greedy or drawn; rows that are done leave the batch."""
    most = _longest(decoder, options)
    logits = usable(decoder.step(None))
    if job.count > 1:
        rows = torch.arange(job.prompts, device=logits.device).repeat_interleave(job.count)
        decoder.select(rows)
        logits = logits[rows]
    active = list(range(job.prompts * job.count))
    written: list[list[int]] = [[] for _ in active]
    answers: dict[int, Answer] = {}
    uniform: Tensor | None = None
    for number in range(most):
        if noise is not None and options.temperature > 0:
            if number % DRAWS == 0:
                block = noise.rand(DRAWS)
            uniform = block[active, number % DRAWS]
        allowed = _allowed(logits, [written[row] for row in active], options, job)
        tokens = choose(allowed, options, uniform)
        going = []
        for place, (row, token) in enumerate(zip(active, tokens.tolist(), strict=True)):
            prompt = row // job.count
            if token < 0 or token in job.stop_ids:
                ids = written[row]
                answers[row] = Answer(tuple(ids), job.text_of(prompt, ids), finished=True)
                continue
            written[row].append(token)
            if job.watch is not None:
                job.watch(row, written[row])
            if (text := _stopped(written[row], prompt, options, job)) is not None:
                answers[row] = Answer(tuple(written[row]), text, finished=True)
            else:
                going.append(place)
        if not going or number == most - 1:
            active = [active[place] for place in going]
            break
        if len(going) < len(active):
            rows = torch.tensor(going, device=tokens.device)
            decoder.select(rows)
            active, tokens = [active[place] for place in going], tokens[rows]
        logits = usable(decoder.step(tokens))
    for row in active:
        ids = written[row]
        answers[row] = Answer(tuple(ids), job.text_of(row // job.count, ids), finished=False)
    count = job.count
    return [[answers[p * count + i] for i in range(count)] for p in range(job.prompts)]


def _longest(decoder: TokenDecoder, options: Decoding) -> int:
    limits = (options.max_tokens, decoder.longest)
    return min(limit for limit in limits if limit is not None)


def _stopped(ids: Sequence[int], prompt: int, options: Decoding, job: Job) -> str | None:
    """The text before a stop that is complete with the last token, if one is."""
    for stop in options.stop:
        tail = ids[-len(stop.encode()) - 4 :]  # each token has a byte or more, but for a few marks
        if stop in job.text_of(prompt, tail):
            text = job.text_of(prompt, ids)
            if stop in text:
                return text[: text.index(stop)]
    return None


# Beam search.


class _Beams:
    """The beams of one prompt, and what they have finished."""

    def __init__(self, prompt: int, options: Decoding, job: Job) -> None:
        self.prompt, self.options, self.job = prompt, options, job
        self.written: list[list[int]] = [[] for _ in range(options.beams)]
        self.finished: list[Answer] = []

    def extend(
        self, candidates: Sequence[tuple[int, int, float]], penalty: Sequence[float], *, last: bool
    ) -> list[tuple[int, int, float]]:
        """Take the best candidates, as (beam, token, log-probability), best first; those that go
        on. `penalty` is that of each beam, `last` whether nothing may go on.
        """
        K, job = self.options.beams, self.job
        going: list[tuple[int, int, float]] = []
        written: list[list[int]] = []
        for rank, (beam, token, value) in enumerate(candidates):
            if value == -torch.inf or len(going) == K:
                break
            ids = self.written[beam]
            if token in job.stop_ids:
                if rank < K:
                    text = job.text_of(self.prompt, ids)
                    self._finish(ids, text, value, penalty[beam], len(ids) + 1)
                continue
            ids = [*ids, token]
            if (cut := _stopped(ids, self.prompt, self.options, job)) is not None:
                self._finish(ids, cut, value, penalty[beam], len(ids))
            elif last:
                text = job.text_of(self.prompt, ids)
                self._finish(ids, text, value, penalty[beam], len(ids), ended=False)
            else:
                going.append((beam, token, value))
                written.append(ids)
        if not going and not self.finished:  # every token is forbidden
            self._finish(self.written[0], job.text_of(self.prompt, self.written[0]), -torch.inf, 0)
        while going and len(going) < K:  # there are fewer texts than beams
            going.append((*going[0][:2], -torch.inf))
            written.append(written[0])
        self.written = written
        self.finished.sort(key=lambda answer: -(answer.score or 0.0))
        return going

    def _finish(
        self,
        ids: Sequence[int],
        text: str,
        value: float,
        penalty: float,
        tokens: int = 1,
        ended: bool = True,
    ) -> None:
        score = value / _length(tokens, self.options) - penalty
        self.finished.append(Answer(tuple(ids), text, ended, score))

    def done(self, going: Sequence[tuple[int, int, float]], most: int) -> bool:
        """Whether nothing can become one of the best: log-probabilities only fall, and no length is
        divided by more than the largest.
        """
        if not going:
            return True
        if len(self.finished) < self.job.count:
            return False
        worst = self.finished[self.job.count - 1].score or 0.0
        return worst >= max(value for *_, value in going) / _length(most, self.options)


def _search(decoder: TokenDecoder, options: Decoding, job: Job) -> list[list[Answer]]:
    """The likeliest texts; exact where there are as many beams as texts."""
    K, most = options.beams, _longest(decoder, options)
    logits = usable(decoder.step(None))
    device = logits.device
    groups = [_Beams(prompt, options, job) for prompt in range(job.prompts)]
    answers: dict[int, list[Answer]] = {}
    rows = torch.arange(job.prompts, device=device).repeat_interleave(K)
    covered = None if decoder.attention is None else decoder.attention[rows]
    decoder.select(rows)
    logits = logits[rows]
    scores = torch.full((job.prompts, K), -torch.inf, device=device)
    scores[:, 0] = 0.0  # beams are equal at first, so one of them goes on
    for number in range(most):
        P, V = len(groups), logits.shape[-1]
        allowed = _allowed(logits, [ids for g in groups for ids in g.written], options, job)
        # What is forbidden stays missing: a score is what the model says of the text.
        log_p = allowed.float() - logits.float().logsumexp(-1, keepdim=True)
        total = scores.view(-1, 1) + log_p  # (P K, V)
        penalty = _coverage(covered, options) if covered is not None else scores.new_zeros(P * K)
        ranked = total - penalty[:, None] if options.coverage == "repeated" else total
        best = first_best(ranked.view(P, K * V), K * (1 + len(job.stop_ids)))
        values = [
            sums[chosen].tolist() for sums, chosen in zip(total.view(P, -1), best, strict=True)
        ]
        told = zip(map(Tensor.tolist, best), values, penalty.view(P, K).tolist(), strict=True)
        kept: list[_Beams] = []
        moves: list[tuple[int, int, float]] = []  # (row, token, log-probability)
        for place, (group, (chosen, sums, penalties)) in enumerate(zip(groups, told, strict=True)):
            candidates = [(*divmod(c, V), value) for c, value in zip(chosen, sums, strict=True)]
            going = group.extend(candidates, penalties, last=number == most - 1)
            if group.done(going, most):
                answers[group.prompt] = group.finished[: job.count]
            else:
                kept.append(group)
                moves += [(place * K + beam, token, value) for beam, token, value in going]
        groups = kept
        if not groups:
            break
        rows = torch.tensor([row for row, _, _ in moves], device=device)
        decoder.select(rows)
        tokens = torch.tensor([token for _, token, _ in moves], device=device)
        logits = usable(decoder.step(tokens))
        scores = torch.tensor([value for *_, value in moves], device=device)
        if covered is not None and decoder.attention is not None:
            covered = covered[rows] + decoder.attention
    return [answers[prompt] for prompt in range(job.prompts)]


def first_best(scores: Tensor, k: int) -> list[Tensor]:
    """Places of the k largest numbers of each row (P, N), the largest first and of equal ones the
    first first; -inf is none. Which of equal ones topk takes depends on the rows beside them.
    """
    least = scores.topk(min(k, scores.shape[1])).values[:, -1:]
    places = [row.nonzero()[:, 0] for row in (scores >= least) & (scores > -torch.inf)]
    return [
        place[row[place].sort(descending=True, stable=True).indices[:k]]
        for row, place in zip(scores, places, strict=True)
    ]


def _length(tokens: int, options: Decoding) -> float:
    return ((5 + tokens) / 6) ** options.length_penalty


def _coverage(covered: Tensor, options: Decoding) -> Tensor:
    """Penalty (R,) >= 0 for the sums (R, S) of the attention so far."""
    if options.coverage == "repeated":
        return options.coverage_penalty * (covered.clamp(min=1) - 1).sum(-1)
    missing = torch.where(covered > 0, -covered.clamp(max=1).log(), 0.0)  # 0: padding
    return options.coverage_penalty * missing.sum(-1)
