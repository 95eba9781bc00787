"""Low-rank adapters: y = W x + (alpha / rank) B A x with W frozen and only A and B trained.

Hu et al., 2022, https://arxiv.org/abs/2106.09685. A is Kaiming-uniform and B zero, so that an
adapted network begins as the network it adapts.

Differs from the paper: every linear layer of the blocks is adapted, not only query and value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from math import sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.linear import linear


class LoRALinear(nn.Linear):
    """A linear layer with its adapter; the layer's own tensors keep their names."""

    lora_scale: Tensor

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float, dropout: float) -> None:
        nn.Module.__init__(self)  # nn.Linear would draw weights only to throw them away
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.lora_a = nn.Parameter(base.weight.new_empty(rank, base.in_features))
        self.lora_b = nn.Parameter(base.weight.new_zeros(base.out_features, rank))
        # In the weights, so that whoever reads them can merge without knowing alpha.
        self.register_buffer("lora_scale", torch.tensor(alpha / rank))
        self.dropout = dropout
        self.enabled = True
        nn.init.kaiming_uniform_(self.lora_a, a=sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        y = linear(x, self.weight, self.bias)
        if not self.enabled:
            return y
        x = F.dropout(x, self.dropout, self.training)
        return y + self.lora_scale * F.linear(F.linear(x, self.lora_a), self.lora_b)

    def merged(self) -> Tensor:
        """The weight of a layer without an adapter that computes the same."""
        return _merged(self.weight, self.lora_a, self.lora_b, self.lora_scale)


def add_adapters(
    blocks: nn.Module, *, rank: int, alpha: float, dropout: float = 0.0
) -> list[nn.Parameter]:
    """Give every linear layer inside `blocks` an adapter; returns what is to be trained."""
    for parent in list(blocks.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.Linear) and not isinstance(layer, LoRALinear):
                adapted = LoRALinear(layer, rank=rank, alpha=alpha, dropout=dropout)
                setattr(parent, name, adapted)
    layers = [layer for layer in blocks.modules() if isinstance(layer, LoRALinear)]
    return [p for layer in layers for p in (layer.lora_a, layer.lora_b)]


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """Inside, the network is the one that was adapted."""
    layers = [layer for layer in network.modules() if isinstance(layer, LoRALinear)]
    for layer in layers:
        layer.enabled = False
    try:
        yield
    finally:
        for layer in layers:
            layer.enabled = True


def merge_adapters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network without adapters that computes the same; others as they are."""
    merged = {key: value for key, value in weights.items() if ".lora_" not in key}
    for key, a in weights.items():
        if key.endswith(".lora_a"):
            layer = key.removesuffix(".lora_a")
            b, scale = weights[f"{layer}.lora_b"], weights[f"{layer}.lora_scale"]
            merged[f"{layer}.weight"] = _merged(weights[f"{layer}.weight"], a, b, scale)
    return merged


def _merged(base: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    """In float64, so that rounding is no larger than that of one product."""
    return (base.double() + scale.double() * (b.double() @ a.double())).to(base.dtype)
