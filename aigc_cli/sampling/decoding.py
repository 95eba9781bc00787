"""How a model that gives the next token writes whole texts: one implementation for every family."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Decoder(Protocol):
    """A model that has read its prompts, one row each, and keeps what it has computed (a cache)."""

    def step(self, tokens: Tensor | None) -> Tensor:
        """Logits (R, V) of the next token: right after the prompts (None), then after `tokens`
        (R,) were chosen.
        """

    def select(self, rows: Tensor) -> None:
        """Keep these rows (R',) of the state, in this order and possibly several times: beams that
        move, samples that multiply, rows that are done.
        """
