"""Decoder-only language models: Llama, Qwen2, Qwen3, Gemma and GPT-2, with the names of Hugging
Face.

Touvron et al., "LLaMA", 2023, https://arxiv.org/abs/2302.13971; Yang et al., "Qwen3", 2025,
https://arxiv.org/abs/2505.09388; Gemma Team, 2024, https://arxiv.org/abs/2403.08295; Radford et
al., "Language Models are Unsupervised Multitask
Learners" (GPT-2), 2019; initial weights as in nanoGPT.

Letters as in nn/transformer.py, and V for the vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from aigc_cli.nn.linear import Linear, linear
from aigc_cli.nn.transformer import Gate, Gelu, GPT2Block, LlamaBlock, RMSNorm, Rope
from aigc_cli.specs.text import IGNORE

MOST_LOGITS = 1 << 25  # of one piece: 128 MB in float32


def embedded(table: nn.Embedding, tokens: Tensor) -> Tensor:
    """(R, T, D) of tokens (R, T); of how much there is of each token, float (R, T, V), the sum."""
    found: Tensor = tokens @ table.weight if tokens.is_floating_point() else table(tokens)
    return found


class CausalLM(nn.Module, ABC):
    """Base of the layouts: tokens (R, T) -> logits (R, T, V), or nats with a `target`. What is read
    may be several tokens at once, as `embedded` says.
    """

    context: int

    def forward(
        self,
        tokens: Tensor,
        *,
        target: Tensor | None = None,
        document: Tensor | None = None,
    ) -> Tensor:
        """Logits (R, T, V); with `target` the cross-entropy (R, T) of each, 0 where it is IGNORE.

        Texts with another number in `document` (R, T) do not see each other.
        """
        T = tokens.shape[1]
        positions: Tensor | slice = slice(T)
        mask, causal = None, T > 1
        if document is not None:
            mask, positions = isolated(document)
        hidden = self.hidden(tokens, positions, mask, causal and mask is None)
        if target is not None:
            return token_losses(hidden, self.head_weight, target)
        return linear(hidden, self.head_weight)

    @abstractmethod
    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | slice,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        """Normalized features (R, T, D) before the head."""

    @property
    @abstractmethod
    def head_weight(self) -> Tensor:
        """(V, D)"""

    @property
    @abstractmethod
    def blocks(self) -> nn.ModuleList:
        """From the embeddings to the last normalization."""

    @property
    def num_layers(self) -> int:
        return len(self.blocks)

    def _init(self, residual: tuple[str, ...]) -> None:
        """| weight                                     | from               |
        |--------------------------------------------|--------------------|
        | embeddings and linear layers               | N(0, 0.02)         |
        | their last in a block, before its sum      | N(0, 0.02/sqrt(2L))|
        | biases, scales of normalizations           | 0, 1               |
        """
        for name, module in self.named_modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                std = 0.02 / (2 * self.num_layers) ** 0.5 if name.endswith(residual) else 0.02
                nn.init.normal_(module.weight, 0.0, std)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)


class LlamaBody(nn.Module):
    """Holds what has the prefix `model.` in Hugging Face's names."""

    def __init__(self, embed_tokens: nn.Embedding, layers: nn.ModuleList, norm: RMSNorm) -> None:
        super().__init__()
        self.embed_tokens, self.layers, self.norm = embed_tokens, layers, norm


class Llama(CausalLM):
    """Layout of LlamaForCausalLM; with `qk_norm` that of Qwen3ForCausalLM, with `qkv_bias` that of
    Qwen2ForCausalLM, with a gate of gelu_tanh and `scaled_embeddings` that of GemmaForCausalLM,
    whose scales of RMSNorm are stored less 1 there.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int,
        *,
        dim: int,
        num_layers: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        hidden_dim: int,
        qk_norm: bool,
        rope_theta: float,
        tied: bool,
        eps: float,
        dropout: float,
        qkv_bias: bool = False,
        gate: Gate = "silu",
        scaled_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.context = context
        self.embedding_scale = dim**0.5 if scaled_embeddings else 1.0
        blocks = nn.ModuleList(
            LlamaBlock(
                dim, num_heads, num_kv_heads, head_dim=head_dim, hidden_dim=hidden_dim,
                qk_norm=qk_norm, eps=eps, dropout=dropout, qkv_bias=qkv_bias, gate=gate,
            )
            for _ in range(num_layers)
        )  # fmt: skip
        self.model = LlamaBody(nn.Embedding(vocab_size, dim), blocks, RMSNorm(dim, eps))
        self.lm_head = None if tied else Linear(dim, vocab_size, bias=False)
        self.rope = Rope(head_dim, context, rope_theta)
        self.dropout = nn.Dropout(dropout)
        self._init(("o_proj", "down_proj"))

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | slice,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        rotation = self.rope(positions)
        x = embedded(self.model.embed_tokens, tokens)  # (R, T, D)
        if self.embedding_scale != 1:
            x = x * self.embedding_scale
        x = self.dropout(x)
        for layer in self.model.layers:
            x = layer(x, rotation, mask=mask, causal=causal)
        out: Tensor = self.model.norm(x)
        return out

    @property
    def head_weight(self) -> Tensor:
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    @property
    def blocks(self) -> nn.ModuleList:
        return self.model.layers


class GPT2Body(nn.Module):
    """Holds what has the prefix `transformer.` in Hugging Face's names."""

    def __init__(
        self, wte: nn.Embedding, wpe: nn.Embedding, h: nn.ModuleList, ln_f: nn.LayerNorm
    ) -> None:
        super().__init__()
        self.wte, self.wpe, self.h, self.ln_f = wte, wpe, h, ln_f


class GPT2(CausalLM):
    """Layout of GPT2LMHeadModel, always with tied embeddings."""

    def __init__(
        self,
        vocab_size: int,
        context: int,
        *,
        dim: int,
        num_layers: int,
        num_heads: int,
        bias: bool,
        gelu: Gelu,
        eps: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.context = context
        blocks = nn.ModuleList(
            GPT2Block(dim, num_heads, bias=bias, gelu=gelu, eps=eps, dropout=dropout)
            for _ in range(num_layers)
        )
        self.transformer = GPT2Body(
            nn.Embedding(vocab_size, dim),
            nn.Embedding(context, dim),
            blocks,
            nn.LayerNorm(dim, eps, bias=bias),
        )
        self.dropout = nn.Dropout(dropout)
        self._init(("c_proj",))

    def hidden(
        self,
        tokens: Tensor,
        positions: Tensor | slice,
        mask: Tensor | None,
        causal: bool,
    ) -> Tensor:
        x = embedded(self.transformer.wte, tokens)  # (R, T, D)
        x = x + self.transformer.wpe.weight[positions]
        x = self.dropout(x)
        for block in self.transformer.h:
            x = block(x, mask=mask, causal=causal)
        out: Tensor = self.transformer.ln_f(x)
        return out

    @property
    def head_weight(self) -> Tensor:
        return self.transformer.wte.weight

    @property
    def blocks(self) -> nn.ModuleList:
        return self.transformer.h


def token_losses(
    hidden: Tensor, head: Tensor, target: Tensor, *, most: int = MOST_LOGITS
) -> Tensor:
    """Cross-entropy (R, T) in nats, float32, of hidden (R, T, D) @ head (V, D)^T; 0 at IGNORE.

    At most `most` logits exist at once: where there are more, pieces of tokens are made one after
    the other, and made again for the gradient.
    """
    x, y = hidden.flatten(0, 1), target.flatten()
    rows = max(1, most // head.shape[0])
    if len(x) <= rows:
        return _losses(x, head, y).view_as(target)
    pieces = [
        checkpoint(_losses, a, head, b, use_reentrant=False, preserve_rng_state=False)
        for a, b in zip(x.split(rows), y.split(rows), strict=True)
    ]
    return torch.cat(pieces).view_as(target)


def _losses(x: Tensor, head: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, head).float(), y, ignore_index=IGNORE, reduction="none")


def isolated(document: Tensor) -> tuple[Tensor, Tensor]:
    """Mask (R, 1, T, T) and positions (R, T) for rows in which texts follow each other."""
    T = document.shape[1]
    column = torch.arange(T, device=document.device)
    same = document[:, :, None] == document[:, None, :]
    begins = F.pad(document[:, 1:] != document[:, :-1], (1, 0), value=True)
    first = (column * begins).cummax(1).values
    return (same & (column[:, None] >= column))[:, None], column - first
