"""Transformer blocks: attention with a cache, the block of Llama and Qwen3, that of GPT-2, and
those of the encoder-decoder. The first two write by way of nn/cached_lm.py.

Vaswani et al., "Attention Is All You Need", 2017, https://arxiv.org/abs/1706.03762; RoPE of Su et
al., 2021, https://arxiv.org/abs/2104.09864; RMSNorm of Zhang and Sennrich, 2019,
https://arxiv.org/abs/1910.07467; gates of Shazeer, 2020, https://arxiv.org/abs/2002.05202; grouped
queries of Ainslie et al., 2023, https://arxiv.org/abs/2305.13245.

Letters: R rows of a batch, T tokens, S tokens that are looked at, D features, H heads, K heads of
keys and values, E features of a head. A mask is a bool tensor that broadcasts to (R, H, T, S), true
where attention may look; None means everywhere, and `causal` alone keeps SDPA's fast kernels.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.linear import Linear

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of RoPE, those of the first half negative: float32, (T, E) or (R, 1, T, E)."""


Gelu = Literal["exact", "tanh"]
Gate = Literal["silu", "gelu_tanh"]


class RMSNorm(nn.Module):
    """x / rms(x) over the last dimension, computed in float32, times a learned scale."""

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).to(x.dtype)


class Rope(nn.Module):
    """Rotary positions in the rotate-half layout of Llama, tabled for positions below `context`."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_dim: int, context: int, theta: float = 10_000.0) -> None:
        super().__init__()
        frequency = theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
        angle = torch.arange(context, dtype=torch.float64)[:, None] * frequency
        cos, sin = angle.cos().float(), angle.sin().float()
        self.register_buffer("cos", torch.cat([cos, cos], -1), persistent=False)
        self.register_buffer("sin", torch.cat([-sin, sin], -1), persistent=False)

    def forward(self, positions: Tensor | slice) -> Rotation:
        """Of positions (R, T), or of a range that is the same in every row."""
        cos, sin = self.cos[positions], self.sin[positions]
        return (cos, sin) if cos.ndim == 2 else (cos[:, None], sin[:, None])


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """x (R, H, T, E) turned to its positions, in float32."""
    cos, sin = rotation
    y = x.float()
    halves_exchanged = y.roll(y.shape[-1] // 2, dims=-1)  # the sign is in the sines
    return torch.addcmul(y * cos, halves_exchanged, sin).to(x.dtype)


class Cache:
    """Keys and values (R, K, S, E) of one attention. The storage doubles when it is full and is
    used as a slice, so a token costs no copy and nothing is attended to that is not there.
    """

    def __init__(self) -> None:
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, the new (R, K, T, E) at the end."""
        begin, self.length = self.length, self.length + keys.shape[2]
        if self._keys is None or self._values is None or self.length > self._keys.shape[2]:
            self._keys = self._grown(self._keys, keys, begin)
            self._values = self._grown(self._values, values, begin)
        self._keys[:, :, begin : self.length] = keys
        self._values[:, :, begin : self.length] = values
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order and possibly several times."""
        if self._keys is not None and self._values is not None:
            self._keys = self._chosen(self._keys, rows)
            self._values = self._chosen(self._values, rows)

    def _chosen(self, held: Tensor, rows: Tensor) -> Tensor:
        chosen = held.new_empty(len(rows), *held.shape[1:])
        begin = slice(self.length)
        torch.index_select(held[:, :, begin], 0, rows, out=chosen[:, :, begin])
        return chosen

    def _grown(self, held: Tensor | None, new: Tensor, begin: int) -> Tensor:
        room = 1 << max(6, math.ceil(math.log2(self.length + 1)))
        larger = new.new_empty(*new.shape[:2], room, new.shape[3])
        if held is not None:
            larger[:, :, :begin] = held[:, :, :begin]
        return larger


def attend(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None, causal: bool, dropout: float = 0.0
) -> Tensor:
    """Scaled dot-product attention, q (R, H, T, E) on k and v (R, K, S, E) -> (R, T, H E); each
    head of keys and values serves H / K neighboring heads of queries.
    """
    R, H, T, E = q.shape
    K = k.shape[1]
    if T == 1 and H != K:  # queries that share keys pass as so many tokens: half the time of GQA
        q = q.view(R, K, H // K, E)
        grouped = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return grouped.reshape(R, 1, H * E)
    mixed = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal, dropout_p=dropout, enable_gqa=H != K
    )
    return mixed.transpose(1, 2).reshape(R, T, H * E)


class Attention(nn.Module):
    """Self-attention with the weight names of Llama, or of Qwen3 with `qk_norm`.

    bias: of queries, keys, values, and of the output unless `out_bias` says otherwise.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        *,
        head_dim: int,
        bias: bool = False,
        out_bias: bool | None = None,
        qk_norm: bool = False,
        eps: float = 1e-5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.head_dim, self.dropout = head_dim, dropout
        self.q_proj = Linear(dim, num_heads * head_dim, bias=bias)
        self.k_proj = Linear(dim, num_kv_heads * head_dim, bias=bias)
        self.v_proj = Linear(dim, num_kv_heads * head_dim, bias=bias)
        out_bias = bias if out_bias is None else out_bias
        self.o_proj = Linear(num_heads * head_dim, dim, bias=out_bias)
        self.q_norm = RMSNorm(head_dim, eps) if qk_norm else None
        self.k_norm = RMSNorm(head_dim, eps) if qk_norm else None

    def forward(
        self,
        x: Tensor,
        *,
        rotation: Rotation | None = None,
        mask: Tensor | None = None,
        causal: bool = False,
        cache: Cache | None = None,
    ) -> Tensor:
        q, k, v = (self._heads(f(x)) for f in (self.q_proj, self.k_proj, self.v_proj))
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            k, v = cache.append(k, v)
        dropout = self.dropout if self.training else 0.0
        out: Tensor = self.o_proj(attend(q, k, v, mask=mask, causal=causal, dropout=dropout))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """(R, T, H E) -> (R, H, T, E)"""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class CrossAttention(nn.Module):
    """Attention of a text on another: `project` what is looked at once, then ask it often."""

    def __init__(self, dim: int, num_heads: int, *, bias: bool = True, dropout: float = 0.0):
        super().__init__()
        self.head_dim, self.dropout = dim // num_heads, dropout
        self.q_proj = Linear(dim, dim, bias=bias)
        self.k_proj = Linear(dim, dim, bias=bias)
        self.v_proj = Linear(dim, dim, bias=bias)
        self.o_proj = Linear(dim, dim, bias=bias)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (R, H, S, E) of memory (R, S, D)."""
        return self._heads(self.k_proj(memory)), self._heads(self.v_proj(memory))

    def forward(
        self, x: Tensor, keys: Tensor, values: Tensor, *, mask: Tensor | None = None
    ) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        q = self._heads(self.q_proj(x))
        out: Tensor = self.o_proj(attend(q, keys, values, mask=mask, causal=False, dropout=dropout))
        return out

    def weights(self, x: Tensor, keys: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Where x (R, T, D) looks: (R, T, S), sums to 1 over S, mean of the heads, float32."""
        scores = self._heads(self.q_proj(x)) @ keys.transpose(-1, -2) / self.head_dim**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask, -torch.inf)
        return scores.float().softmax(-1).mean(1)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def gated(x: Tensor, gate: Gate) -> Tensor:
    """What a gate lets through, of the same shape as x."""
    return F.silu(x) if gate == "silu" else F.gelu(x, approximate="tanh")


class GatedFeedForward(nn.Module):
    """down(gated(gate(x)) * up(x)), with the weight names of Llama: SwiGLU, or Gemma's
    GEGLU.
    """

    def __init__(self, dim: int, hidden_dim: int, gate: Gate = "silu") -> None:
        super().__init__()
        self.gate = gate
        self.gate_proj = Linear(dim, hidden_dim, bias=False)
        self.up_proj = Linear(dim, hidden_dim, bias=False)
        self.down_proj = Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(gated(self.gate_proj(x), self.gate) * self.up_proj(x))
        return out


class LlamaBlock(nn.Module):
    """Pre-norm decoder block of Llama; with `qkv_bias` that of Qwen2, with `qk_norm` of Qwen3."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_kv_heads: int,
        *,
        head_dim: int,
        hidden_dim: int,
        qk_norm: bool,
        eps: float,
        dropout: float,
        qkv_bias: bool = False,
        gate: Gate = "silu",
    ) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(dim, eps)
        self.self_attn = Attention(
            dim, num_heads, num_kv_heads, head_dim=head_dim, bias=qkv_bias, out_bias=False,
            qk_norm=qk_norm, eps=eps, dropout=dropout,
        )  # fmt: skip
        self.post_attention_layernorm = RMSNorm(dim, eps)
        self.mlp = GatedFeedForward(dim, hidden_dim, gate)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, rotation: Rotation, *, mask: Tensor | None, causal: bool
    ) -> Tensor:
        attended = self.self_attn(
            self.input_layernorm(x), rotation=rotation, mask=mask, causal=causal
        )
        x = x + self.dropout(attended)
        x = x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return x


class GPT2Attention(nn.Module):
    """Self-attention with the weight names of GPT-2: queries, keys and values are one projection.

    Weights are (out, in) as everywhere; Hugging Face's Conv1D stores their transpose.
    """

    def __init__(self, dim: int, num_heads: int, *, bias: bool, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.c_attn = Linear(dim, 3 * dim, bias=bias)
        self.c_proj = Linear(dim, dim, bias=bias)

    def forward(self, x: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
        qkv = self.c_attn(x).unflatten(-1, (3, self.num_heads, -1))  # (R, T, 3, H, E)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (R, H, T, E)
        dropout = self.dropout if self.training else 0.0
        out: Tensor = self.c_proj(attend(q, k, v, mask=mask, causal=causal, dropout=dropout))
        return out


class GPT2FeedForward(nn.Module):
    """Four times as wide inside; GELU exact as in nanoGPT, or the tanh of OpenAI's weights."""

    def __init__(self, dim: int, *, bias: bool, gelu: Gelu) -> None:
        super().__init__()
        self.approximate = "none" if gelu == "exact" else "tanh"
        self.c_fc = Linear(dim, 4 * dim, bias=bias)
        self.c_proj = Linear(4 * dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.c_proj(F.gelu(self.c_fc(x), approximate=self.approximate))
        return out


class GPT2Block(nn.Module):
    """Pre-norm decoder block of GPT-2."""

    def __init__(
        self, dim: int, num_heads: int, *, bias: bool, gelu: Gelu, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps, bias=bias)
        self.attn = GPT2Attention(dim, num_heads, bias=bias, dropout=dropout)
        self.ln_2 = nn.LayerNorm(dim, eps, bias=bias)
        self.mlp = GPT2FeedForward(dim, bias=bias, gelu=gelu)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, mask: Tensor | None, causal: bool) -> Tensor:
        x = x + self.dropout(self.attn(self.ln_1(x), mask=mask, causal=causal))
        x = x + self.dropout(self.mlp(self.ln_2(x)))
        return x


# Encoder and decoder.


class FeedForward(nn.Sequential):
    """x (..., D) -> (..., D) by way of `hidden_dim` features."""

    def __init__(
        self, dim: int, hidden_dim: int, *, activation: Literal["relu", "gelu"], dropout: float
    ) -> None:
        middle = nn.ReLU() if activation == "relu" else nn.GELU()
        super().__init__(
            Linear(dim, hidden_dim), middle, nn.Dropout(dropout), Linear(hidden_dim, dim)
        )


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward; normalized before each (`pre`) or after its sum."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        hidden_dim: int,
        norm: Literal["pre", "post"],
        activation: Literal["relu", "gelu"] = "relu",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.self_attn = Attention(
            dim, num_heads, num_heads, head_dim=dim // num_heads, bias=True, dropout=dropout
        )
        self.feed_forward = FeedForward(dim, hidden_dim, activation=activation, dropout=dropout)
        self.norm_1, self.norm_2 = nn.LayerNorm(dim, eps), nn.LayerNorm(dim, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """x (R, S, D); the mask (R, 1, 1, S) is false at padding."""
        if self.pre:
            x = x + self.dropout(self.self_attn(self.norm_1(x), mask=mask))
            return x + self.dropout(self.feed_forward(self.norm_2(x)))
        x = self.norm_1(x + self.dropout(self.self_attn(x, mask=mask)))
        out: Tensor = self.norm_2(x + self.dropout(self.feed_forward(x)))
        return out


class DecoderBlock(nn.Module):
    """Causal self-attention, attention on the source, feed-forward; `pre` or `post` norm."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        hidden_dim: int,
        norm: Literal["pre", "post"],
        activation: Literal["relu", "gelu"] = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pre = norm == "pre"
        self.self_attn = Attention(
            dim, num_heads, num_heads, head_dim=dim // num_heads, bias=True, dropout=dropout
        )
        self.cross_attn = CrossAttention(dim, num_heads, dropout=dropout)
        self.feed_forward = FeedForward(dim, hidden_dim, activation=activation, dropout=dropout)
        self.norm_1, self.norm_2, self.norm_3 = (nn.LayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        *,
        memory_mask: Tensor | None = None,
        cache: Cache | None = None,
        looking: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """x (R, T, D), and with `looking` where it looks in the source, (R, T, S).

        `memory` is what `cross_attn.project` made of the source; its mask (R, 1, 1, S) is false at
        padding. With a cache, the tokens before x are in it, and T is 1 unless it is empty.
        """
        causal = x.shape[1] > 1
        h = self.norm_1(x) if self.pre else x
        x = x + self.dropout(self.self_attn(h, causal=causal, cache=cache))
        x = x if self.pre else self.norm_1(x)
        h = self.norm_2(x) if self.pre else x
        seen = self.cross_attn.weights(h, memory[0], mask=memory_mask) if looking else None
        x = x + self.dropout(self.cross_attn(h, *memory, mask=memory_mask))
        x = x if self.pre else self.norm_2(x)
        x = x + self.dropout(self.feed_forward(self.norm_3(x) if self.pre else x))
        return x if self.pre else self.norm_3(x), seen


def sinusoids(length: int, dim: int) -> Tensor:
    """Positions (length, dim) of Vaswani et al., section 3.5: sines in even features, cosines in
    odd ones.
    """
    frequency = 10_000 ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, :dim].float()
