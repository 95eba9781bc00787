"""One text from another: translations, replies, summaries; by recurrent networks or a Transformer.

rnn: LSTM or GRU without attention (Sutskever et al., 2014), with the source's last state at each
step (Cho et al., 2014), with additive (Bahdanau et al., 2015) or multiplicative attention (Luong et
al., 2015), with or without coverage; papers in nn/rnn.py. transformer: Vaswani et al., "Attention
Is All You Need", 2017, https://arxiv.org/abs/1706.03762.

Differs from the papers:
* words of one sentence are predicted by a linear layer, without the maxout of Bahdanau et al.;
* a source is read in its own order, not in reverse;
* whether a token of the target or the model's own is fed (`teacher_forcing`) is drawn for each
  token of each text, not for a batch;
* coverage accumulates attention without the learned fertility of Tu et al., 2016;
* the unknown word is read but never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models.text._pairs import PairOptions
from aigc_cli.models.text._rewarded import RewardConfig, RewardedModule
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.encoder_decoder import EncoderDecoder, RecurrentSeq2Seq, TransformerSeq2Seq
from aigc_cli.recipe.dial import Dial
from aigc_cli.sampling.decoding import TokenDecoder
from aigc_cli.specs import Spec

DIAL = Dial(
    goals=("translate", "reply"),
    sizes=tuple(
        {
            "model.dim": D, "model.hidden_dim": 2 * D, "model.num_layers": layers,
            "model.num_heads": D // 32,
        }
        for D, layers in ((96, 2), (192, 2), (256, 3))
    ),
    steps=900,
    always={
        "model.arch": "transformer", "model.dropout": 0.2, "model.norm": "pre",
        "model.positions": "sinusoidal", "model.share": "all", "model.label_smoothing": 0.1,
        "model.lr": 2e-3, "model.betas": [0.9, 0.98], "trainer.global_batch": 64,
        "trainer.clip_norm": 1.0,
    },
    rank=1,
)  # fmt: skip


class Config(RewardConfig):
    """The network and its training; the defaults are a small recurrent one with attention."""

    TINY: ClassVar[Mapping[str, Any]] = {"dim": 8, "hidden_dim": 8, "dropout": 0.0}
    FEW: ClassVar[Mapping[str, Any]] = {"dim": 128, "hidden_dim": 256}

    arch: Literal["rnn", "transformer"] = "rnn"
    """rnn: a recurrent encoder and decoder; transformer: blocks of attention."""
    dim: int = Field(256, gt=0)
    """Features of an embedded token; in a Transformer of every layer."""
    hidden_dim: int = Field(512, gt=0)
    """rnn: units of a layer in each direction; transformer: inside the feed-forward."""
    num_layers: int = Field(1, gt=0, le=64)
    """Layers of the encoder, and as many of the decoder."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """rnn: on embeddings and between layers; transformer: on every sum and on attention."""
    cell: Literal["lstm", "gru"] = "gru"
    """rnn: the kind of layer."""
    attention: Literal["none", "context", "additive", "multiplicative"] = "additive"
    """rnn: what a step sees of the source beside the state it began with: nothing, its last state,
    or as much of each position as the energy of Bahdanau et al. or of Luong et al. says.
    """
    coverage: bool = False
    """rnn: give the attention so far to the energy."""
    bidirectional: bool = True
    """rnn: read the source in both directions."""
    teacher_forcing: float = Field(1.0, ge=0, le=1)
    """rnn: probability that a step is fed the target's token and not the model's likeliest."""
    init: Literal["orthogonal", "uniform", "normal"] = "orthogonal"
    """rnn: initial weights; uniform: U(-0.08, 0.08); normal: N(0, 0.01)."""
    num_heads: int = Field(4, gt=0)
    """transformer: heads of each attention; divides `dim`."""
    norm: Literal["pre", "post"] = "post"
    """transformer: normalize before each part, or after its sum as the paper."""
    positions: Literal["learned", "sinusoidal"] = "learned"
    """transformer: what is added to embeddings."""
    share: Literal["none", "output", "all"] = "none"
    """One matrix for the output and the decoder's embedding, or also for the encoder's, which needs
    one vocabulary: no `data.target_tokenizer`.
    """
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Part of the target's probability that is spread over the whole vocabulary."""
    truncate: bool = False
    """Read only the beginning of a source that is longer than `data.max_source`, as for summaries,
    instead of refusing it.
    """
    lr: float = Field(1e-3, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first and second moment."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.arch == "transformer":
            if self.dim % self.num_heads:
                raise ValueError(
                    f"dim ({self.dim}) must be a multiple of num_heads ({self.num_heads})"
                )
            if self.teacher_forcing < 1 or self.coverage:
                raise ValueError("teacher_forcing and coverage need arch rnn")
        elif self.coverage and self.attention in ("none", "context"):
            raise ValueError("coverage needs attention additive or multiplicative")
        return self


class Model(RewardedModule):
    """Cross-entropy of the next token, or rewards of its own texts; with Adam."""

    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        if config.share == "all" and self.spec.source_tokenizer != self.spec.target_tokenizer:
            raise InputError(
                "model.share: all needs one vocabulary for both sides",
                hint="leave data.target_tokenizer out, or set model.share=output",
            )
        self.truncates = config.truncate
        self.network = self._built()

    def _built(self) -> EncoderDecoder:
        c = self.config
        vocab = (self.source_tokenizer.vocab_size, self.tokenizer.vocab_size)
        pad = (self.source_pad, self.pad)
        if c.arch == "rnn":
            return RecurrentSeq2Seq(
                *vocab, pad,
                cell=c.cell, dim=c.dim, hidden_dim=c.hidden_dim, num_layers=c.num_layers,
                attention=c.attention, coverage=c.coverage, bidirectional=c.bidirectional,
                dropout=c.dropout, init=c.init, share=c.share,
            )  # fmt: skip
        return TransformerSeq2Seq(
            *vocab, pad,
            dim=c.dim, hidden_dim=c.hidden_dim, num_layers=c.num_layers, num_heads=c.num_heads,
            norm=c.norm, positions=c.positions, share=c.share, dropout=c.dropout,
            longest=(self.spec.max_source, self.spec.max_target),
        )  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return fused_adam(self.parameters(), c.lr, c.betas)

    def loss(self, batch: Batch) -> Terms:
        if self.judges:
            return self.rewarded_loss(batch)
        source, target = batch["source"], batch["target"]
        features = self._decoded(source, target, self.config.teacher_forcing)
        kept = target[:, 1:] != self.pad
        logits = self.network.head(features[kept]).float()  # (N, V)
        smoothing = self.config.label_smoothing
        nll = F.cross_entropy(logits, target[:, 1:][kept], reduction="sum") / self.mean_weight
        if not smoothing:
            return {"loss": nll}
        uniform = -logits.log_softmax(-1).mean(-1).sum() / self.mean_weight
        return {"loss": (1 - smoothing) * nll + smoothing * uniform, "nll": nll}

    def _decoded(self, source: Tensor, target: Tensor, teacher_forcing: float = 1.0) -> Tensor:
        """(B, T - 1, F): what each token after the first is predicted from."""
        state = self.network.encode(source)
        tokens = target[:, :-1]
        if teacher_forcing == 1:
            return self.network.decode(tokens, state)[0]
        B, T = tokens.shape
        forced = self.rand(B, self.spec.max_target)[:, :T] < teacher_forcing
        fed, features = tokens[:, 0], []
        for t in range(T):
            feature, state = self.network.decode(fed[:, None], state)
            features.append(feature)
            if t + 1 < T:
                free = ~forced[:, t + 1]
                with torch.no_grad():
                    likeliest = self.network.head(feature[free, 0]).argmax(-1)
                fed = tokens[:, t + 1].masked_scatter(free, likeliest)
        return torch.cat(features, 1)

    def log_probs(self, source: Tensor, target: Tensor) -> Tensor:
        kept = target[:, 1:] != self.pad
        logits = self.network.head(self._decoded(source, target)[kept]).float()
        chosen = -F.cross_entropy(logits, target[:, 1:][kept], reduction="none")
        return chosen.new_zeros(kept.shape).masked_scatter(kept, chosen)

    def read_ids(self, source: Tensor) -> TokenDecoder:
        state = self.network.encode(source, cached=True)
        longest = self.spec.max_target if self.config.arch == "transformer" else None
        return Writer(self.network, state, torch.full_like(source[:, 0], self.bos), longest)


class Writer(TokenDecoder):
    """The state of the network after the tokens so far."""

    def __init__(
        self, network: EncoderDecoder, state: Any, bos: Tensor, longest: int | None
    ) -> None:
        self._network, self._state, self._bos = network, state, bos
        self.longest = longest

    @property
    def attention(self) -> Tensor | None:  # type: ignore[override]
        looked: Tensor | None = self._state.attention
        return looked

    def step(self, tokens: Tensor | None) -> Tensor:
        tokens = self._bos if tokens is None else tokens
        features, self._state = self._network.decode(tokens[:, None], self._state)
        return self._network.head(features[:, 0]).float()

    def select(self, rows: Tensor) -> None:
        self._state = self._state.select(rows)


class Options(PairOptions):
    """What `aigc sample` and `aigc evaluate` may set."""
