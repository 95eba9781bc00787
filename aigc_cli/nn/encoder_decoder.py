"""Networks that read one text and write another: recurrent, and the Transformer.

What was computed of the source and of earlier tokens is in a state, `rnn.State` or `Memory`. Both
have `attention` (B, S), where the last step looked, and `select`, which keeps rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aigc_cli.nn import rnn
from aigc_cli.nn.linear import Linear
from aigc_cli.nn.rnn import Attending, Cell, Init
from aigc_cli.nn.transformer import Cache, DecoderBlock, EncoderBlock, sinusoids

Share = Literal["none", "output", "all"]


class EncoderDecoder(nn.Module, ABC):
    """Sources (B, S), padded at the end, and tokens (B, T) to features (B, T, F) and logits."""

    output: nn.Linear

    @abstractmethod
    def encode(self, source: Tensor, *, cached: bool = False) -> Any:
        """The state after reading; `cached` to write from it in several calls of `decode`."""

    @abstractmethod
    def decode(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Features from which the token after each is predicted, and the state after the last."""

    def head(self, features: Tensor) -> Tensor:
        """Logits (..., V) of features (..., F)."""
        logits: Tensor = self.output(features)
        return logits


class RecurrentSeq2Seq(EncoderDecoder):
    """Embeddings, the encoder and the decoder of nn/rnn.py, and a linear layer to the vocabulary.

    Dropout is on embeddings and between layers. share: as of TransformerSeq2Seq, after a linear
    layer from the features to the size of an embedding (Press and Wolf, EACL 2017,
    https://arxiv.org/abs/1608.05859); what is read, on both sides, is multiplied by the root of
    that size, as there.
    """

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        pad: tuple[int, int],
        *,
        cell: Cell,
        dim: int,
        hidden_dim: int,
        num_layers: int,
        attention: Attending,
        coverage: bool,
        bidirectional: bool,
        dropout: float,
        init: Init,
        share: Share,
    ) -> None:
        super().__init__()
        self.pad = pad[0]
        self.target = nn.Embedding(target_vocab, dim)
        self.source = self.target if share == "all" else nn.Embedding(source_vocab, dim)
        self.dropout = nn.Dropout(dropout)
        asks = attention in ("additive", "multiplicative")
        self.encoder = rnn.Encoder(
            cell,
            dim,
            hidden_dim,
            num_layers,
            state_dim=hidden_dim,
            key_dim=hidden_dim if asks else 0,
            key_bias=attention == "additive",
            bidirectional=bidirectional,
            dropout=dropout,
        )
        self.decoder = rnn.RNNDecoder(
            cell,
            dim,
            hidden_dim,
            num_layers,
            memory_dim=self.encoder.memory_dim,
            attention=attention,
            coverage=coverage,
            dropout=dropout,
        )
        self.combine: nn.Module = nn.Identity()
        self.scale, features = 1.0, self.decoder.feature_dim
        if share != "none":
            self.combine = nn.Linear(features, dim, bias=False)
            self.scale, features = dim**0.5, dim
        self.output = Linear(features, target_vocab)
        if share != "none":
            self.output.weight = self.target.weight
        rnn.init_recurrent(self, init)

    def head(self, features: Tensor) -> Tensor:
        return super().head(self.combine(features))

    def encode(self, source: Tensor, *, cached: bool = False) -> rnn.State:
        embedded = self.dropout(self.source(source) * self.scale)
        state: rnn.State = self.encoder(embedded, lengths(source, self.pad))
        return state

    def decode(self, tokens: Tensor, state: rnn.State) -> tuple[Tensor, rnn.State]:
        embedded = self.dropout(self.target(tokens) * self.scale)
        made: tuple[Tensor, rnn.State] = self.decoder(embedded, state)
        return made


@dataclass(frozen=True)
class Memory:
    """What a Transformer keeps of a source, and of the tokens written where there are caches."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Keys and values (B, H, S, E) of the source for each block of the decoder."""
    mask: Tensor
    """(B, 1, 1, S): true at the tokens of the source."""
    caches: tuple[Cache, ...] | None
    attention: Tensor | None = None
    """(B, S): where the last block looked for the last token, the mean of its heads."""

    def select(self, rows: Tensor) -> Memory:
        """Keep these rows (B',), in this order."""
        for cache in self.caches or ():
            cache.select(rows)
        return replace(
            self,
            layers=tuple((keys[rows], values[rows]) for keys, values in self.layers),
            mask=self.mask[rows],
            attention=None if self.attention is None else self.attention[rows],
        )


class TransformerSeq2Seq(EncoderDecoder):
    """Embeddings times the root of their size plus positions, blocks, and a linear layer.

    share: `output` has one matrix for the decoder's embedding and the output, `all` one for the
    encoder's as well. Matrices are Glorot uniform, as embeddings of their own are; shared ones are
    N(0, 1 / dim), and biases 0.
    """

    positions: Tensor
    """(P, D), sinusoidal."""

    def __init__(
        self,
        source_vocab: int,
        target_vocab: int,
        pad: tuple[int, int],
        *,
        dim: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        norm: Literal["pre", "post"],
        positions: Literal["learned", "sinusoidal"],
        longest: tuple[int, int],
        share: Share,
        dropout: float,
    ) -> None:
        super().__init__()
        self.pad = pad[0]
        self.target = nn.Embedding(target_vocab, dim)
        self.source = self.target if share == "all" else nn.Embedding(source_vocab, dim)
        self.places = None
        if positions == "learned":
            self.places = nn.ModuleList(nn.Embedding(length, dim) for length in longest)
        else:
            self.register_buffer("positions", sinusoids(max(longest), dim), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(
            EncoderBlock(dim, num_heads, hidden_dim=hidden_dim, norm=norm, dropout=dropout)
            for _ in range(num_layers)
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(dim, num_heads, hidden_dim=hidden_dim, norm=norm, dropout=dropout)
            for _ in range(num_layers)
        )
        last = norm == "pre"
        self.norms = nn.ModuleList(nn.LayerNorm(dim) if last else nn.Identity() for _ in range(2))
        self.output = Linear(dim, target_vocab)
        if share != "none":
            self.output.weight = self.target.weight
        self._initialize(share)

    def encode(self, source: Tensor, *, cached: bool = False) -> Memory:
        mask = (source != self.pad)[:, None, None]  # (B, 1, 1, S)
        x = self._embedded(self.source, source, side=0)
        for block in self.encoder:
            x = block(x, mask=mask)
        x = self.norms[0](x)
        layers = tuple(block.cross_attn.project(x) for block in self._blocks())
        caches = tuple(Cache() for _ in self.decoder) if cached else None
        return Memory(layers, mask, caches)

    def decode(self, tokens: Tensor, state: Memory) -> tuple[Tensor, Memory]:
        """With caches, tokens follow those of the calls before, and attention is noted."""
        caches = state.caches or (None,) * len(self.decoder)
        begin = caches[0].length if caches[0] is not None else 0
        x = self._embedded(self.target, tokens, side=1, begin=begin)
        looked = None
        for number, block in enumerate(self.decoder, 1):
            looking = state.caches is not None and number == len(self.decoder)
            x, looked = block(
                x,
                state.layers[number - 1],
                memory_mask=state.mask,
                cache=caches[number - 1],
                looking=looking,
            )
        attention = None if looked is None else looked[:, -1]
        return self.norms[1](x), replace(state, attention=attention)

    def _embedded(
        self, embedding: nn.Embedding, tokens: Tensor, *, side: int, begin: int = 0
    ) -> Tensor:
        places = slice(begin, begin + tokens.shape[1])
        if self.places is None:
            position = self.positions[places]
        else:
            position = self.places[side](
                torch.arange(places.start, places.stop, device=tokens.device)
            )
        x = embedding(tokens) * embedding.embedding_dim**0.5 + position
        out: Tensor = self.dropout(x)
        return out

    def _blocks(self) -> list[DecoderBlock]:
        return [block for block in self.decoder if isinstance(block, DecoderBlock)]

    def _initialize(self, share: str) -> None:
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)
        if share != "none":
            nn.init.normal_(self.target.weight, 0.0, self.target.embedding_dim**-0.5)


def lengths(tokens: Tensor, pad: int) -> Tensor:
    """Tokens (B,) of each row (B, S) before its padding; one at least."""
    return (tokens != pad).sum(1).clamp(min=1)
