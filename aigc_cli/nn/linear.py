"""A linear layer that uses all cores when it is given a few rows, as it is token by token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW, PARTS = 32, 4


class Linear(nn.Linear):
    """nn.Linear by way of `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear; for at most FEW rows of float32 on a CPU, without gradients, as PARTS products.

    MKL leaves the product of a row and a matrix to one thread, which uses little of the memory's
    bandwidth; of a batch of products each thread takes some.
    """
    out_dim, dim = weight.shape
    few = x.is_cpu and x.dtype == torch.float32 and x.numel() <= FEW * dim
    if not few or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    whole = out_dim // PARTS * PARTS
    parts = weight[:whole].view(PARTS, whole // PARTS, dim)
    y = torch.bmm(x.reshape(1, -1, dim).expand(PARTS, -1, -1), parts.mT)  # (PARTS, rows, ...)
    y = y.transpose(0, 1).reshape(*x.shape[:-1], whole)
    if whole < out_dim:
        y = torch.cat([y, F.linear(x, weight[whole:])], -1)
    return y if bias is None else y + bias
