"""Summaries that may copy words of their source: the pointer-generator with coverage.

See, Liu and Manning, "Get To The Point: Summarization with Pointer-Generator Networks", ACL 2017,
https://arxiv.org/abs/1704.04368. Adagrad of Duchi, Hazan and Singer, 2011.

A word is drawn from the vocabulary with probability p_gen, otherwise copied from the source as
attention points. Words of the source that the vocabulary lacks are numbered from its size on.

Differs from the paper:
* torch's LSTM has two biases for each gate; the sizes agree otherwise;
* coverage is part of the energy from `coverage_after` on with a weight that begins at zero, and the
  run goes on with the same optimizer;
* the loss is the mean over the tokens of a batch, not over its texts of their means;
* the unknown word is read but never written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models.text._pairs import PairModule, PairOptions
from aigc_cli.nn import rnn
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.encoder_decoder import lengths
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.decoding import TokenDecoder
from aigc_cli.specs import Spec

TINY = 1e-30  # what a word that is nowhere in the source is copied with

DIAL = Dial(
    goals=("summarize",),
    sizes=(
        {"data.max_source": 96, "data.max_target": 48, "model.dim": 64, "model.hidden_dim": 64},
        {"data.max_source": 160, "data.max_target": 48, "model.dim": 64, "model.hidden_dim": 128},
        {"data.max_source": 256, "data.max_target": 48, "model.dim": 128, "model.hidden_dim": 256},
    ),
    steps=600,
    always={
        "data.copying": True,
        "data.tokenizer": {
            "kind": "words", "vocab_size": 12000, "min_count": 2, "lowercase": True,
        },
        "model.dropout": 0.3, "model.init": "orthogonal", "model.optimizer": "adam",
        "model.lr": 1e-3, "trainer.global_batch": 16, "trainer.clip_norm": 2.0,
        "sample.beams": 4, "sample.no_repeat_ngram": 3, "sample.max_tokens": 46,
    },
    needs="summaries",
)  # fmt: skip


class Config(Section):
    """The network and its training; the defaults are those of the paper."""

    TINY: ClassVar[Mapping[str, Any]] = {"dim": 8, "hidden_dim": 8, "coverage_after": 0.0}

    dim: int = Field(128, gt=0)
    """Features of an embedded word."""
    hidden_dim: int = Field(256, gt=0)
    """Units of the decoder, and of the encoder in each direction."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Part of embeddings that is zeroed while training; small data needs some."""
    coverage_after: float = Field(0.9, ge=0, le=1)
    """Part of the run after which attention is told what it has looked at, and is charged for
    looking again; 1 never does.
    """
    coverage_weight: float = Field(1.0, ge=0)
    """Weight of that charge."""
    init: Literal["uniform", "orthogonal"] = "uniform"
    """Initial weights: U(-0.02, 0.02); or orthogonal in recurrent layers, Glorot uniform elsewhere,
    which learns in fewer steps.
    """
    optimizer: Literal["adagrad", "adam"] = "adagrad"
    """adagrad as in the paper; adam, at a hundredth of its rate, learns in fewer steps."""
    lr: float = Field(0.15, gt=0, le=1)
    """Learning rate before the schedule."""
    accumulator: float = Field(0.1, ge=0)
    """What Adagrad's sums of squares begin with."""


class Mixture(NamedTuple):
    """What the next word of each token is made of; S source words, T tokens."""

    features: Tensor
    """(B, T, H): logits of the vocabulary before the last layer."""
    switch: Tensor
    """(B, T): logits of p_gen."""
    attention: Tensor
    """(B, T, S): where a copied word comes from."""
    overlap: Tensor
    """(B, T): the sum over the source of min(attention, coverage), the coverage loss."""


class PointerGenerator(nn.Module):
    """Sources (B, S) and tokens (B, T) in the vocabulary -> a Mixture, and the state after it."""

    def __init__(self, vocab_size: int, pad: int, config: Config) -> None:
        super().__init__()
        E, H = config.dim, config.hidden_dim
        M = 2 * H  # features of the memory, in which attention compares too
        self.pad, self.memory_dim = pad, M
        self.embedding = nn.Embedding(vocab_size, E)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = rnn.Encoder(
            "lstm", E, H, state_dim=H, key_dim=M, bidirectional=True, bridge="relu"
        )
        self.input = nn.Linear(E + M, E)
        self.rnn = rnn.recurrent("lstm", E, H)
        self.attention = rnn.Attention("additive", 2 * H, M, coverage=True)
        self.switch = nn.Linear(M + 2 * H + E, 1)
        self.combine = nn.Linear(H + M, H)
        self.output = nn.Linear(H, vocab_size)
        self._initialize(config.init)

    def encode(self, source: Tensor) -> rnn.State:
        embedded = self.dropout(self.embedding(source))
        state: rnn.State = self.encoder(embedded, lengths(source, self.pad))
        return replace(state, context=state.values.new_zeros(len(source), self.memory_dim))

    def decode(
        self, tokens: Tensor, state: rnn.State, *, covering: bool = True
    ) -> tuple[Mixture, rnn.State]:
        """Without `covering`, attention does not know what it has looked at."""
        steps = []
        for x in self.dropout(self.embedding(tokens)).unbind(1):
            step, state = self._step(x, state, covering)
            steps.append(step)
        return Mixture(*(torch.stack(part, 1) for part in zip(*steps, strict=True))), state

    def _step(self, x: Tensor, state: rnn.State, covering: bool) -> tuple[Mixture, rnn.State]:
        assert state.context is not None
        x = self.input(torch.cat((x, state.context), -1))  # (B, E)
        made, hidden = rnn.run(self.rnn, x[:, None], state.hidden)
        query = torch.cat([h[-1] for h in hidden], -1)  # (B, 2 H), h and c
        before = state.coverage
        known = before if covering else torch.zeros_like(before)
        context, looked = rnn.attend(self.attention, query, replace(state, coverage=known))
        attention = looked.attention
        assert attention is not None
        mixture = Mixture(
            self.combine(torch.cat((made[:, 0], context), -1)),
            self.switch(torch.cat((context, query, x), -1)).squeeze(-1).float(),
            attention,
            torch.minimum(attention, before).sum(-1),
        )
        after = replace(looked, hidden=hidden, context=context, coverage=before + attention)
        return mixture, after

    def _initialize(self, init: str) -> None:
        """As `Config.init`; the weight of coverage is 0."""
        if init == "orthogonal":
            rnn.init_recurrent(self, "orthogonal")
        else:
            for weight in self.parameters():
                nn.init.uniform_(weight, -0.02, 0.02) if weight.ndim > 1 else nn.init.zeros_(weight)
        assert self.attention.coverage is not None
        nn.init.zeros_(self.attention.coverage.weight)


class Model(PairModule):
    """Negative log-likelihood of the mixture and, late, the coverage loss; with Adagrad."""

    truncates = True
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        if not self.spec.copy or self.spec.source_tokenizer != self.spec.target_tokenizer:
            raise InputError(
                "words are copied into the vocabulary of their source",
                hint="set data.copying=true and data.tokenizer.kind=words",
            )
        self.vocab_size = self.tokenizer.vocab_size
        self.unknown = self.tokenizer.unk_id
        self.network = PointerGenerator(self.vocab_size, self.pad, config)
        self._added: list[dict[int, str]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        if c.optimizer == "adam":
            return fused_adam(self.parameters(), c.lr)
        return torch.optim.Adagrad(
            self.parameters(), c.lr, initial_accumulator_value=c.accumulator, foreach=True
        )

    def sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return batch["source_copy"], batch["target_copy"]

    def known(self, ids: Tensor) -> Tensor:
        """Ids in the vocabulary alone: words that can only be copied are unknown to it."""
        assert self.unknown is not None
        return ids.masked_fill(ids >= self.vocab_size, self.unknown)

    def loss(self, batch: Batch) -> Terms:
        source, target = self.sides(batch)
        covering = self.step >= self.config.coverage_after * self._run().max_steps
        log_p, mixture = self._log_probs(source, target, covering=covering)
        kept = target[:, 1:] != self.pad
        nll = -log_p.sum() / self.mean_weight
        overlap = mixture.overlap[kept].sum() / self.mean_weight
        p_gen = mixture.switch.detach().sigmoid()[kept].sum() / self.mean_weight
        loss = nll + self.config.coverage_weight * overlap if covering else nll
        return {"loss": loss, "nll": nll, "coverage": overlap, "p_gen": p_gen}

    def log_probs(self, source: Tensor, target: Tensor) -> Tensor:
        """As everywhere, where ids from `vocab_size` on are words that sources add."""
        return self._log_probs(source, target)[0]

    def _log_probs(
        self, source: Tensor, target: Tensor, *, covering: bool = True
    ) -> tuple[Tensor, Mixture]:
        state = self.network.encode(self.known(source))
        made, _ = self.network.decode(self.known(target[:, :-1]), state, covering=covering)
        kept = target[:, 1:] != self.pad
        word = target[:, 1:][kept]  # (N,)
        logits = self.network.output(made.features[kept]).float()
        drawn = -F.cross_entropy(logits, self.known(word), reduction="none")
        drawn = drawn.masked_fill(word >= self.vocab_size, log(TINY))
        there = source[:, None] == target[:, 1:, None]  # (B, T - 1, S)
        copied = (made.attention * there).sum(-1)[kept].clamp(min=TINY).log()
        switch = made.switch[kept]
        log_p = torch.logaddexp(F.logsigmoid(switch) + drawn, F.logsigmoid(-switch) + copied)
        return log_p.new_zeros(kept.shape).masked_scatter(kept, log_p), made

    def read_ids(self, source: Tensor) -> TokenDecoder:
        self._added = [{} for _ in source]
        return Writer(self, source)

    def read(self, prompts: Sequence[str]) -> TokenDecoder:
        decoder = super().read(prompts)
        for text, added in zip(prompts, self._added, strict=True):
            numbers, _ = self.tokenizer.copy_ids(text)
            words = self.tokenizer.words(text)
            added.update(
                {n: w for n, w in zip(numbers, words, strict=True) if n >= self.vocab_size}
            )
        return decoder

    def encoded(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.tokenizer.copy_ids(text)[0] for text in texts]

    def text_of(self, prompt: int, ids: Sequence[int]) -> str:
        """With the words of source number `prompt` of those read last."""
        names, added = self.tokenizer.tokens, self._added[prompt]
        assert self.unknown is not None
        missing = names[self.unknown]
        return self.tokenizer.join(
            [names[n] if n < self.vocab_size else added.get(n, missing) for n in ids]
        )


class Writer(TokenDecoder):
    """Probabilities of the words so far in the vocabulary that the sources extend together."""

    def __init__(self, model: Model, source: Tensor) -> None:
        self._model, self._source = model, source
        self._state = model.network.encode(model.known(source))
        self._size = max(model.vocab_size, int(source.max()) + 1)

    @property
    def attention(self) -> Tensor | None:  # type: ignore[override]
        return self._state.attention

    def step(self, tokens: Tensor | None) -> Tensor:
        model = self._model
        tokens = torch.full_like(self._source[:, 0], model.bos) if tokens is None else tokens
        made, self._state = model.network.decode(model.known(tokens)[:, None], self._state)
        p_gen = made.switch.sigmoid()  # (R, 1)
        drawn = model.network.output(made.features[:, 0]).float().softmax(-1)
        p = F.pad(p_gen * drawn, (0, self._size - model.vocab_size))  # (R, V and added words)
        return p.scatter_add(1, self._source, (1 - p_gen) * made.attention[:, 0]).log()

    def select(self, rows: Tensor) -> None:
        self._source, self._state = self._source[rows], self._state.select(rows)


class Options(PairOptions):
    """What `aigc sample` and `aigc evaluate` may set."""

    max_tokens: int = Field(120, gt=0)
    """Longest summary, in words."""
    lead: int = Field(1, ge=0)
    """First sentences of each source that `aigc evaluate` scores beside the model's summaries."""
