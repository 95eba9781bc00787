"""Products of few rows with a matrix, as a model that writes token by token needs them.

Measured on one core of a processor with AMX, a row and (1536, 576), which is no longer in the
nearest cache: float32 0.44 ms, bfloat16 0.33 ms, int8 0.20 ms; 16 rows: 0.85, 0.36 and 0.60 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW, PARTS = 32, 4

Precision = Literal["float32", "bfloat16", "int8"]
Product = Callable[[Tensor], Tensor]
"""(N, I) -> (N, O)"""


class Linear(nn.Linear):
    """nn.Linear by way of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear; for at most FEW rows of float32 on several cores, without gradients, as PARTS
    products.

    MKL leaves the product of a row and a matrix to one thread, which uses little of the memory's
    bandwidth; of a batch of products each thread takes some.
    """
    out_dim, dim = weight.shape
    few = x.is_cpu and x.dtype == torch.float32 and x.numel() <= FEW * dim
    if not few or torch.get_num_threads() == 1:
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    whole = out_dim // PARTS * PARTS
    parts = weight[:whole].view(PARTS, whole // PARTS, dim)
    y = torch.bmm(x.reshape(1, -1, dim).expand(PARTS, -1, -1), parts.mT)  # (PARTS, rows, ...)
    y = y.transpose(0, 1).reshape(*x.shape[:-1], whole)
    if whole < out_dim:
        y = torch.cat([y, F.linear(x, weight[whole:])], -1)
    return y if bias is None else y + bias


def product(weight: Tensor, bias: Tensor | None, precision: Precision) -> Product:
    """x W^T + b with W (O, I) made ready once. x and y are float32, or bfloat16 with weights of
    bfloat16 and int8, where sums are float32 still.
    """
    if precision == "float32":
        return lambda x: linear(x, weight, bias)
    bias = None if bias is None else bias.bfloat16()
    if precision == "int8":
        return _of_int8(weight, bias)
    weight = weight.bfloat16()
    if not (weight.is_cpu and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return lambda x: F.linear(x, weight, bias)
    # oneDNN's own layout: 16 rows take 0.6 of the time of F.linear, which arranges anew each time.
    # A single row needs no arranging and takes 0.6 of the time that it takes in that layout; many
    # rows outweigh it.
    multiply, packed = torch.ops.mkldnn._linear_pointwise.default, list[Tensor]()

    def multiplied(x: Tensor) -> Tensor:
        if not 1 < len(x) <= FEW:
            return F.linear(x, weight, bias)
        if not packed:
            packed.append(torch.ops.mkldnn._reorder_linear_weight(weight, FEW))
        return multiply(x, packed[0], bias, "none", [], "")

    return multiplied


def _of_int8(weight: Tensor, bias: Tensor | None) -> Product:
    """Whole numbers to 127 times a number for each row of W. Many rows of x are faster with the
    weight multiplied out.
    """
    scale = (weight.abs().amax(1) / 127).clamp(min=1e-12).bfloat16()
    whole = (weight / scale.float()[:, None]).round().clamp(-127, 127).to(torch.int8)

    def multiply(x: Tensor) -> Tensor:
        if x.is_cpu and len(x) <= FEW:
            y = torch._weight_int8pack_mm(x, whole, scale)
            return y if bias is None else y + bias
        return F.linear(x, whole.bfloat16() * scale[:, None], bias)

    return multiply
