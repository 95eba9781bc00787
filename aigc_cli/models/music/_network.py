"""The networks that give the next event or the next frame of music, and how they go on."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models.text._causal import CausalConfig, CausalDecoder
from aigc_cli.models.text._network import build_network
from aigc_cli.nn.cached_lm import CachedLM, Prefix
from aigc_cli.nn.causal_lm import CausalLM
from aigc_cli.nn.recurrent_lm import RecurrentLM, RecurrentReader
from aigc_cli.sampling.decoding import TokenDecoder


class Config(CausalConfig):
    """The network and its training."""

    arch: Literal["llama", "classic", "lstm", "gru"] = "llama"  # type: ignore[assignment]
    """llama: a Transformer as Llama, Qwen2 and Qwen3; classic: as GPT-2; lstm and gru: recurrent,
    of `num_layers` layers of `dim` units.
    """
    head: Literal["autoregressive", "bernoulli"] = "autoregressive"
    """frames: autoregressive gives each key after the lower ones of its frame; bernoulli gives all
    keys independently of each other.
    """
    pitch_dim: int = Field(64, gt=0)
    """frames, autoregressive: hidden units that remember the lower keys."""

    @property
    def attends(self) -> bool:
        return self.arch not in ("lstm", "gru")


def build(config: Config, vocab_size: int, context: int) -> CausalLM:
    """The network with its initial weights."""
    c = config
    if c.arch == "lstm" or c.arch == "gru":
        return RecurrentLM(
            vocab_size, context, cell=c.arch, dim=c.dim, num_layers=c.num_layers, tied=c.tied,
            dropout=c.dropout,
        )  # fmt: skip
    return build_network(c, vocab_size, context)


def decoder_of(net: CausalLM, row: list[int], begin: int) -> TokenDecoder:
    """What goes on from a row of tokens, with what it has computed.

    Raises:
        InputError: the row is longer than the context of a Transformer; a recurrent network reads
            any.
    """
    if isinstance(net, RecurrentLM):
        return RecurrentDecoder(net, row)
    if len(row) > net.context:
        raise InputError(
            f"the piece has {len(row):,} tokens, and the model reads at most {net.context:,}",
            hint="give fewer bars of it, or train with a larger data.context",
        )
    return CausalDecoder(CachedLM(net), [row], begin)


class RecurrentDecoder(TokenDecoder):
    """Continues a row of tokens by a recurrent network, which has read all of it however long."""

    def __init__(self, net: RecurrentLM, row: list[int]) -> None:
        self.net, self.reader = net, RecurrentReader(net, 1)
        self.row = torch.tensor([row], device=net.head_weight.device)

    def step(self, tokens: Tensor | None) -> Tensor:
        read = self.row if tokens is None else tokens[:, None]
        return self.reader.features(read) @ self.net.head_weight.detach().T

    def select(self, rows: Tensor) -> None:
        self.reader.select(rows)


class TransformerReader:
    """As RecurrentReader, with a cache. Rows that fill the context go on with their last half."""

    def __init__(self, net: CausalLM, rows: int) -> None:
        self.net, self.prefix = CachedLM(net), Prefix()
        self.read = torch.zeros(rows, 0)

    def features(self, tokens: Tensor) -> Tensor:
        """(R, D) after the last of the rows (R, T, V), which follow those before."""
        context = self.net.context
        if self.read.ndim == 2:
            self.read = tokens[:, :0]
        self.read = torch.cat([self.read, tokens], 1)
        if self.prefix.length + tokens.shape[1] > context:
            self.prefix, self.read = Prefix(), self.read[:, -(context // 2) :]
            tokens = self.read
        return self.net.features(tokens, self.prefix)


def reader_of(net: CausalLM, rows: int) -> RecurrentReader | TransformerReader:
    """What reads further rows and keeps what it has computed."""
    return (
        RecurrentReader(net, rows) if isinstance(net, RecurrentLM) else TransformerReader(net, rows)
    )
