"""Recurrent language models: LSTM (Hochreiter and Schmidhuber, 1997) and GRU (Cho et al., 2014)
with the interface of the decoder-only Transformers.

Letters as in nn/causal_lm.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aigc_cli.nn.causal_lm import CausalLM, embedded
from aigc_cli.nn.linear import Linear
from aigc_cli.nn.rnn import Cell, init_recurrent, recurrent, run

Hidden = tuple[Tensor, ...]
"""(num_layers, R, D) each: h of a GRU, h and c of an LSTM."""


class RecurrentLM(CausalLM):
    """Embeddings, recurrent layers, and a head that may be the embeddings."""

    def __init__(
        self,
        vocab_size: int,
        context: int,
        *,
        cell: Cell,
        dim: int,
        num_layers: int,
        tied: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.context = context
        self.embed_tokens = nn.Embedding(vocab_size, dim)
        self.rnn = recurrent(cell, dim, dim, num_layers, dropout=dropout)
        self.lm_head = None if tied else Linear(dim, vocab_size, bias=False)
        self.dropout = nn.Dropout(dropout)
        init_recurrent(self, "orthogonal")

    def hidden(
        self, tokens: Tensor, positions: Tensor | slice, mask: Tensor | None, causal: bool
    ) -> Tensor:
        if mask is not None:
            raise ValueError("a recurrent network cannot keep the texts of a row apart")
        return self.go_on(tokens, self.begin(len(tokens)))[0]

    def begin(self, rows: int) -> Hidden:
        """The state before anything is read."""
        like = self.embed_tokens.weight
        states = 2 if isinstance(self.rnn, nn.LSTM) else 1
        zero = like.new_zeros(self.rnn.num_layers, rows, self.rnn.hidden_size)
        return (zero,) * states

    def go_on(self, tokens: Tensor, state: Hidden) -> tuple[Tensor, Hidden]:
        """Features (R, T, D) before the head, and the state after the last token."""
        x = self.dropout(embedded(self.embed_tokens, tokens))
        made, state = run(self.rnn, x, state)
        return self.dropout(made), state

    @property
    def head_weight(self) -> Tensor:
        return self.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @property
    def blocks(self) -> nn.ModuleList:
        return nn.ModuleList([self.rnn])


class RecurrentReader:
    """Features of a RecurrentLM after what rows have read so far."""

    def __init__(self, net: RecurrentLM, rows: int) -> None:
        self.net, self.state = net, net.begin(rows)

    @torch.no_grad()
    def features(self, tokens: Tensor) -> Tensor:
        """(R, D) after the last of the tokens, which follow those before."""
        made, self.state = self.net.go_on(tokens, self.state)
        return made[:, -1]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order and possibly several times."""
        self.state = tuple(part[:, rows] for part in self.state)
