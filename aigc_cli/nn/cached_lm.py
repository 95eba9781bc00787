"""A decoder-only network made ready to write: no gradients, few calls a token, packed weights.

It computes what the network of nn/causal_lm.py computes. Products that read the same vector are
one, the scales of RMSNorm are multiplied into the weights behind them, and adapters into theirs.
Weights may be bfloat16 or int8 (`product`); sums, normalizations and rotations stay float32.

Letters as in nn/transformer.py; N is R T, L layers, and of all heads those of queries come first,
then those of keys, then those of values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.causal_lm import GPT2, CausalLM, Llama
from aigc_cli.nn.linear import Precision, Product, product
from aigc_cli.nn.lora import LoRALinear
from aigc_cli.nn.transformer import (
    Attention,
    GPT2Block,
    LlamaBlock,
    RMSNorm,
    Rotation,
    attend,
    gated,
)

Function = Callable[[Tensor], Tensor]


class Prefix:
    """What has been read: keys and values of every layer, and the padding on the left of each row.

    pad (R,): how many of the first columns are none of the row's; None where all rows are full.
    """

    def __init__(self, pad: Tensor | None = None) -> None:
        self.pad = pad if pad is not None and bool(pad.any()) else None
        self.length = 0
        """Columns read so far, padding included."""
        self._held: Tensor | None = None  # (L, R, 2 K, S, E), of which `length` columns are filled
        self._layers: tuple[Tensor, ...] = ()

    def make_room(
        self, shape: tuple[int, int, int, int], T: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """See that T more columns fit; shape is (L, R, 2 K, E). The storage doubles when it is
        full, so a token costs no copy.
        """
        if self._held is not None and self.length + T <= self._held.shape[3]:
            return
        L, R, heads, E = shape
        room = 1 << max(6, math.ceil(math.log2(self.length + T + 1)))
        larger = torch.empty(L, R, heads, room, E, dtype=dtype, device=device)
        if self._held is not None:
            larger[:, :, :, : self.length] = self._held[:, :, :, : self.length]
        self._keep(larger)

    def write(self, layer: int, new: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values (R, K, S, E) of a layer with the new (R, 2 K, T, E) at the end; the
        columns count when `length` is raised.
        """
        held, T = self._layers[layer], new.shape[2]
        held.narrow(2, self.length, T).copy_(new)
        keys, values = held.narrow(2, 0, self.length + T).chunk(2, 1)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order and possibly several times."""
        if self._held is not None:
            L, _, heads, room, E = self._held.shape
            chosen = self._held.new_empty(L, len(rows), heads, room, E)
            filled = slice(self.length)
            chosen[:, :, :, filled] = self._held[:, :, :, filled].index_select(1, rows)
            self._keep(chosen)
        if self.pad is not None:
            self.pad = self.pad[rows]

    def _keep(self, held: Tensor) -> None:
        self._held, self._layers = held, held.unbind(0)

    def ahead(self, T: int, device: torch.device) -> tuple[Tensor | None, Tensor | slice]:
        """Mask (R, 1, T, S) and positions (R, T) of T tokens that follow; no mask, and a range,
        where each may see all before it.

        Padding looks at itself, so that no row of the mask is empty.
        """
        S = self.length + T
        if self.pad is None and (T == 1 or not self.length):
            return None, slice(self.length, S)
        column = torch.arange(S, device=device)
        query = column[self.length :]
        pad = torch.zeros(1, dtype=torch.int64, device=device) if self.pad is None else self.pad
        mine = (column >= pad[:, None])[:, None] & (column <= query[:, None])
        mask = mine | (column == query[:, None])
        return mask[:, None], (query - pad[:, None]).clamp(min=0)


@dataclass(frozen=True)
class Layer:
    """The functions of a block: attention to (N, D), and what follows it."""

    norm_1: Function
    qkv: Product
    unit: Function | None
    """Of (R, T, H + 2 K, E): normalizes queries and keys; None where they are as they come."""
    out: Product
    norm_2: Function
    feed_forward: Function


class CachedLM:
    """tokens (R, T) that follow a prefix -> logits (R, V) after the last of them, float32."""

    @torch.no_grad()
    def __init__(self, net: CausalLM, precision: Precision = "float32") -> None:
        self.context, self.precision = net.context, precision
        self.device = net.head_weight.device
        self._dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self._rope = net.rope if isinstance(net, Llama) else None
        self._layers = [_layer(block, precision, self._dtype) for block in net.blocks]
        head = whole(net.head_weight)
        if isinstance(net, Llama):
            block = net.blocks[0]
            assert isinstance(block, LlamaBlock)
            attention = block.self_attn
            heads = attention.q_proj.out_features, attention.k_proj.out_features
            self._head_dim = attention.head_dim
            self._heads, self._kv_heads = (n // self._head_dim for n in heads)
            self._last_norm: nn.Module = net.model.norm
            self._norm = _rms(net.model.norm, self._dtype)
            self._embeddings, self._positions = whole(net.model.embed_tokens.weight), None
            head = head * whole(net.model.norm.weight)
        else:
            assert isinstance(net, GPT2)
            first = net.blocks[0]
            assert isinstance(first, GPT2Block)
            self._heads = self._kv_heads = first.attn.num_heads
            self._head_dim = first.attn.c_proj.in_features // first.attn.num_heads
            self._last_norm = net.transformer.ln_f
            self._norm = _layer_norm(net.transformer.ln_f, self._dtype)
            self._embeddings = whole(net.transformer.wte.weight)
            self._positions = whole(net.transformer.wpe.weight)
        self._scale = net.embedding_scale if isinstance(net, Llama) else 1.0
        self._head = product(head, None, precision)

    @torch.no_grad()
    def __call__(self, tokens: Tensor, prefix: Prefix) -> Tensor:
        return self._head(self._norm(self._last(tokens, prefix))).float()

    @torch.no_grad()
    def features(self, tokens: Tensor, prefix: Prefix) -> Tensor:
        """(R, D), float32: what a head reads after the last token; tokens as `embedded` says."""
        found: Tensor = self._last_norm(self._last(tokens, prefix))
        return found

    def _last(self, tokens: Tensor, prefix: Prefix) -> Tensor:
        """(R, D): the last block's output at the last token."""
        R, T = tokens.shape[:2]
        H, K, E = self._heads, self._kv_heads, self._head_dim
        mask, positions = prefix.ahead(T, tokens.device)
        causal = T > 1 and mask is None
        prefix.make_room((len(self._layers), R, 2 * K, E), T, self._dtype, tokens.device)
        several = tokens.is_floating_point()
        x = tokens @ self._embeddings if several else F.embedding(tokens, self._embeddings)
        x = x.float()  # (R, T, D)
        if self._positions is not None:
            x = x + self._positions[positions]
        if self._scale != 1:
            x = x * self._scale
        x = x.view(R * T, -1)
        rotation = None if self._rope is None else self._rotation(self._rope(positions))
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.norm_1(x)).view(R, T, H + 2 * K, E)
            if layer.unit is not None:
                qkv = layer.unit(qkv)
            if rotation is not None:
                cos, sin = rotation
                qkv = torch.addcmul(qkv * cos, qkv.roll(E // 2, -1), sin)  # float32
            q = qkv[:, :, :H].transpose(1, 2).to(self._dtype)  # (R, H, T, E)
            k, v = prefix.write(number, qkv[:, :, H:].transpose(1, 2))  # (R, K, S, E)
            seen = attend(q, k, v, mask=mask, causal=causal)  # (R, T, H E)
            x += layer.out(seen.view(R * T, H * E))
            x += layer.feed_forward(layer.norm_2(x))
        prefix.length += T
        return x.view(R, T, -1)[:, -1]

    def _rotation(self, rotation: Rotation) -> Rotation:
        """Those of positions, (T, E) or (R, 1, T, E), for all heads: (T, H + 2 K, E), or with R in
        front. Values are turned by nothing.
        """
        tables = []
        for table, still in zip(rotation, (1.0, 0.0), strict=True):
            turn = table[:, None] if table.ndim == 2 else table.transpose(1, 2)  # (..., T, 1, E)
            *front, _, E = turn.shape
            turned = turn.expand(*front, self._heads + self._kv_heads, E)
            tables.append(
                torch.cat([turned, turn.new_full((*front, self._kv_heads, E), still)], -2)
            )
        return tables[0], tables[1]


def _layer(block: nn.Module, precision: Precision, dtype: torch.dtype) -> Layer:
    if isinstance(block, LlamaBlock):
        attention, mlp = block.self_attn, block.mlp
        scale_1 = whole(block.input_layernorm.weight)
        scale_2 = whole(block.post_attention_layernorm.weight)
        qkv = _joined([attention.q_proj, attention.k_proj, attention.v_proj], scale_1, precision)
        gate_up = _joined([mlp.gate_proj, mlp.up_proj], scale_2, precision)
        down = _joined([mlp.down_proj], None, precision)
        hidden = mlp.gate_proj.out_features

        def feed_forward(h: Tensor) -> Tensor:
            both = gate_up(h)  # (N, 2 hidden)
            return down(gated(both[:, :hidden], mlp.gate) * both[:, hidden:])

        return Layer(
            _rms(block.input_layernorm, dtype),
            qkv,
            _unit_heads(attention),
            _joined([attention.o_proj], None, precision),
            _rms(block.post_attention_layernorm, dtype),
            feed_forward,
        )
    assert isinstance(block, GPT2Block)
    up, last = (
        _joined([block.mlp.c_fc], None, precision),
        _joined([block.mlp.c_proj], None, precision),
    )
    approximate = block.mlp.approximate
    return Layer(
        _layer_norm(block.ln_1, dtype),
        _joined([block.attn.c_attn], None, precision),
        None,
        _joined([block.attn.c_proj], None, precision),
        _layer_norm(block.ln_2, dtype),
        lambda h: last(F.gelu(up(h), approximate=approximate)),
    )


def _joined(layers: list[nn.Linear], scale: Tensor | None, precision: Precision) -> Product:
    """One product for layers that read the same; scale (D,): of what they read."""
    weights = [
        layer.merged() if isinstance(layer, LoRALinear) else layer.weight for layer in layers
    ]
    weight = torch.cat([whole(weight) for weight in weights])
    biases = [whole(layer.bias) for layer in layers if layer.bias is not None]
    bias = torch.cat(biases) if biases else None
    return product(weight if scale is None else weight * scale, bias, precision)


def _rms(norm: RMSNorm, dtype: torch.dtype) -> Function:
    """x / rms(x) without the scale; F.rms_norm takes twice as long on a CPU."""
    eps, D = torch.tensor(norm.eps, device=norm.weight.device), norm.weight.shape[0]

    def normalize(x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x * torch.addcmul(eps, length, length, value=1 / D).rsqrt_()).to(dtype)

    return normalize


def _layer_norm(norm: nn.LayerNorm, dtype: torch.dtype) -> Function:
    weight, bias = whole(norm.weight), None if norm.bias is None else whole(norm.bias)
    return lambda x: F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps).to(dtype)


def _unit_heads(attention: Attention) -> Function | None:
    """Normalizes the heads of queries and of keys, each by itself, as Qwen3 does."""
    q, k, E = attention.q_norm, attention.k_norm, attention.head_dim
    if q is None or k is None:
        return None
    H, K = attention.q_proj.out_features // E, attention.k_proj.out_features // E
    scale = torch.cat([whole(q.weight).expand(H, E), whole(k.weight).expand(K, E)])
    eps = q.eps

    def normalize(qkv: Tensor) -> Tensor:
        heads = qkv[:, :, : H + K].float()
        unit = F.rms_norm(heads, (E,), None, eps) * scale
        return torch.cat([unit, qkv[:, :, H + K :].float()], 2)

    return normalize


def whole(weight: Tensor) -> Tensor:
    """A weight that may be cut over devices; every process must ask for it."""
    # A DTensor has it; to import that class takes as long as half of torch.
    found: Tensor = weight.full_tensor() if hasattr(weight, "full_tensor") else weight
    return found.detach()
