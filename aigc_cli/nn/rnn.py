"""Recurrent encoder and decoder with attention, the parts of every recurrent model of texts.

Without attention the decoder begins with the encoder's last state (Sutskever, Vinyals and Le, 2014,
https://arxiv.org/abs/1409.3215) and may see that state at each step as well, `context` (Cho et al.,
2014, https://arxiv.org/abs/1406.1078). `additive` attention (Bahdanau, Cho and Bengio, ICLR 2015,
https://arxiv.org/abs/1409.0473) asks with the state before a step and feeds what it found to the
step; `multiplicative` attention ("general" of Luong, Pham and Manning, EMNLP 2015,
https://arxiv.org/abs/1508.04025) asks with the state after a step, and what it found is fed to the
next. Coverage, the attention accumulated so far, is one more input to the energy (Tu et al., ACL
2016, https://arxiv.org/abs/1601.04811; See, Liu and Manning, ACL 2017).

Shapes: B batch, S source tokens, T target tokens, E input features, H hidden units of the decoder,
M features of the memory, A features in which attention compares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

Cell = Literal["lstm", "gru"]
Init = Literal["orthogonal", "uniform", "normal"]
Attending = Literal["none", "context", "additive", "multiplicative"]


@dataclass(frozen=True)
class State:
    """All that a decoder needs for its next step, and what the encoder left for it."""

    hidden: tuple[Tensor, ...]
    """(num_layers, B, H): h of a GRU, h and c of an LSTM."""
    values: Tensor
    """(B, S, M): the memory of the source, zeros in padding."""
    keys: Tensor
    """(B, S, A): the memory as attention compares it, computed once."""
    mask: Tensor
    """(B, S): true at the tokens of the source, false in padding."""
    summary: Tensor
    """(B, M): the last state of the encoder's last layer."""
    coverage: Tensor
    """(B, S): the sum of the attention of all steps."""
    attention: Tensor | None = None
    """(B, S): the weights of the last step, which sum to one; None before the first."""
    context: Tensor | None = None
    """(B, M or H): what the last step found, where the next is fed it; None before the first."""

    def select(self, rows: Tensor) -> State:
        """Keep these rows (B',), in this order."""
        hidden = tuple(h[:, rows] for h in self.hidden)
        others = {k: v[rows] for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, hidden=hidden, **others)


def recurrent(
    cell: Cell,
    input_dim: int,
    hidden_dim: int,
    num_layers: int = 1,
    *,
    dropout: float = 0.0,
    bidirectional: bool = False,
) -> nn.RNNBase:
    """Batch-first layers of LSTM or GRU; dropout is between layers, so one layer has none."""
    kind: type[nn.LSTM | nn.GRU] = nn.LSTM if cell == "lstm" else nn.GRU
    dropout = dropout if num_layers > 1 else 0.0
    return kind(
        input_dim,
        hidden_dim,
        num_layers,
        batch_first=True,
        dropout=dropout,
        bidirectional=bidirectional,
    )


class Encoder(nn.Module):
    """Vectors (B, S, E) of sources with `lengths` (B,) -> the State a decoder begins with.

    Padding is never read, in neither direction. The last states of both directions are brought to
    the decoder's size by a linear layer and `bridge`; those of one direction are handed over.
    `key_dim` is A, 0 without attention.
    """

    def __init__(
        self,
        cell: Cell,
        input_dim: int,
        hidden_dim: int,
        num_layers: int = 1,
        *,
        state_dim: int,
        key_dim: int = 0,
        bidirectional: bool = False,
        dropout: float = 0.0,
        bridge: Literal["tanh", "relu"] = "tanh",
        key_bias: bool = True,
    ) -> None:
        super().__init__()
        self.rnn = recurrent(
            cell, input_dim, hidden_dim, num_layers, dropout=dropout, bidirectional=bidirectional
        )
        self.memory_dim = hidden_dim * (2 if bidirectional else 1)
        self.num_layers = num_layers
        states = 2 if cell == "lstm" else 1
        self.activation = torch.tanh if bridge == "tanh" else torch.relu
        self.bridge = nn.ModuleList()
        if bidirectional or hidden_dim != state_dim:
            self.bridge.extend(nn.Linear(self.memory_dim, state_dim) for _ in range(states))
        self.keys = nn.Linear(self.memory_dim, key_dim, bias=key_bias) if key_dim else None

    def forward(self, x: Tensor, lengths: Tensor) -> State:
        B, S, _ = x.shape
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        made, last = self.rnn(packed)
        values, _ = pad_packed_sequence(made, batch_first=True, total_length=S)  # (B, S, M)
        ends = [
            h.view(self.num_layers, -1, B, h.shape[-1]).transpose(1, 2).flatten(2)
            for h in (last if isinstance(last, tuple) else (last,))
        ]  # each (num_layers, B, M)
        hidden = ends
        if len(self.bridge):
            hidden = [self.activation(layer(h)) for layer, h in zip(self.bridge, ends, strict=True)]
        return State(
            hidden=tuple(h.contiguous() for h in hidden),
            values=values,
            keys=values.new_zeros(B, S, 0) if self.keys is None else self.keys(values),
            mask=torch.arange(S, device=x.device) < lengths.to(x.device)[:, None],
            summary=ends[0][-1],
            coverage=values.new_zeros(B, S, dtype=torch.float32),
        )


class Attention(nn.Module):
    """A query (B, Q) compared with the keys of a State -> weights (B, S), zero in padding.

    additive: v tanh(W q + key); multiplicative: q key, where key = W value. With coverage, c times
    a learned vector is added to each key.
    """

    def __init__(
        self,
        kind: Literal["additive", "multiplicative"],
        query_dim: int,
        key_dim: int,
        coverage: bool,
    ) -> None:
        super().__init__()
        self.query = self.energy = None
        if kind == "additive":
            self.query = nn.Linear(query_dim, key_dim, bias=False)
            self.energy = nn.Linear(key_dim, 1, bias=False)
        self.coverage = nn.Linear(1, key_dim, bias=False) if coverage else None

    def forward(self, query: Tensor, state: State) -> Tensor:
        keys = state.keys
        if self.coverage is not None:
            keys = keys + self.coverage(state.coverage[..., None])
        if self.query is not None and self.energy is not None:
            energy = self.energy(torch.tanh(self.query(query)[:, None] + keys)).squeeze(-1)
        else:
            energy = (keys @ query[..., None].to(keys.dtype)).squeeze(-1)
        return energy.float().masked_fill(~state.mask, -torch.inf).softmax(-1)  # (B, S)


class RNNDecoder(nn.Module):
    """Vectors (B, T, E) of the tokens so far and a State -> features (B, T, F) from which the next
    token of each is predicted, and the State after the last. Many tokens at once give what one at
    a time would.

    F (`feature_dim`) is H for `none` and `multiplicative`, the attentional vector of Luong et al.;
    H + M + E for `context` and `additive`: state, context and token together.
    """

    def __init__(
        self,
        cell: Cell,
        input_dim: int,
        hidden_dim: int,
        num_layers: int = 1,
        *,
        memory_dim: int,
        attention: Attending = "none",
        coverage: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.kind = attention
        fed = {"none": 0, "context": memory_dim, "additive": memory_dim}.get(attention, hidden_dim)
        self.rnn = recurrent(cell, input_dim + fed, hidden_dim, num_layers, dropout=dropout)
        self.feature_dim = hidden_dim
        if attention in ("context", "additive"):
            self.feature_dim = hidden_dim + memory_dim + input_dim
        self.attention = self.combine = None
        if attention == "additive" or attention == "multiplicative":
            self.attention = Attention(attention, hidden_dim, hidden_dim, coverage)
        if attention == "multiplicative":
            self.combine = nn.Linear(hidden_dim + memory_dim, hidden_dim, bias=False)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        if self.kind == "none":
            made, hidden = self._run(x, state)
            return made, replace(state, hidden=hidden)
        if self.kind == "context":
            context = state.summary[:, None].expand(-1, x.shape[1], -1)
            made, hidden = self._run(torch.cat((x, context), -1), state)
            return torch.cat((made, context, x), -1), replace(state, hidden=hidden)
        step = self._additive if self.kind == "additive" else self._multiplicative
        features = []
        for t in range(x.shape[1]):
            feature, state = step(x[:, t], state)
            features.append(feature)
        return torch.stack(features, 1), state

    def _additive(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        context, state = self._attend(state.hidden[0][-1], state)
        made, hidden = self._run(torch.cat((x, context), -1)[:, None], state)
        return torch.cat((made[:, 0], context, x), -1), replace(state, hidden=hidden)

    def _multiplicative(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        assert self.combine is not None
        found = x.new_zeros(len(x), self.feature_dim) if state.context is None else state.context
        made, hidden = self._run(torch.cat((x, found), -1)[:, None], state)
        context, state = self._attend(made[:, 0], state)
        found = torch.tanh(self.combine(torch.cat((context, made[:, 0]), -1)))
        return found, replace(state, hidden=hidden, context=found)

    def _attend(self, query: Tensor, state: State) -> tuple[Tensor, State]:
        assert self.attention is not None
        return attend(self.attention, query, state)

    def _run(self, x: Tensor, state: State) -> tuple[Tensor, tuple[Tensor, ...]]:
        return run(self.rnn, x, state.hidden)


def run(
    rnn: nn.RNNBase, x: Tensor, hidden: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Outputs (B, T, H) for inputs (B, T, E), and the state after the last."""
    made, after = rnn(x, hidden if isinstance(rnn, nn.LSTM) else hidden[0])
    return made, after if isinstance(after, tuple) else (after,)


def attend(attention: Attention, query: Tensor, state: State) -> tuple[Tensor, State]:
    """Context (B, M), the memory in the proportions of the weights; they are noted in the State."""
    weights = attention(query, state)
    context = (weights[:, None].to(state.values.dtype) @ state.values).squeeze(1)
    return context, replace(state, attention=weights, coverage=state.coverage + weights)


def init_recurrent(module: nn.Module, init: Init) -> None:
    """Initial weights, everywhere inside `module`.

    uniform: all from U(-0.08, 0.08) (Sutskever et al., 2014); normal: weights from N(0, 0.01),
    biases 0 (Bahdanau et al., 2015); orthogonal: recurrent matrices orthogonal gate by gate, other
    matrices Glorot uniform, embeddings N(0, 1 / width), biases 0, those of an LSTM's forget gate 1.
    """
    for name, weight in module.named_parameters():
        match init:
            case "uniform":
                nn.init.uniform_(weight, -0.08, 0.08)
            case "normal":
                nn.init.zeros_(weight) if weight.ndim == 1 else nn.init.normal_(weight, 0.0, 0.01)
            case "orthogonal":
                _orthogonal(name.rpartition(".")[2], weight)
    if init == "orthogonal":
        for layer in module.modules():
            if isinstance(layer, nn.Embedding):
                nn.init.normal_(layer.weight, 0.0, layer.embedding_dim**-0.5)
            elif isinstance(layer, nn.LSTM):
                for name, bias in layer.named_parameters():
                    if name.startswith("bias_ih"):
                        nn.init.ones_(bias.data.chunk(4)[1])  # input, forget, cell, output


def _orthogonal(name: str, weight: Tensor) -> None:
    if weight.ndim == 1:
        nn.init.zeros_(weight)
    elif name.startswith("weight_hh"):
        for gate in weight.data.split(weight.shape[1]):
            nn.init.orthogonal_(gate)
    else:
        nn.init.xavier_uniform_(weight)
