"""Muon for hidden matrices and AdamW for everything else, as one optimizer.

Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/, with the scale of Liu et al.,
"Muon is Scalable for LLM Training", 2025, https://arxiv.org/abs/2502.16982: an update of a matrix
(m, n) is multiplied by 0.2 sqrt(max(m, n)), which gives it the root mean square of AdamW's, so that
both take the same learning rate and weight decay.

It does what `torch.optim.Muon` does, but gathers a matrix that is sharded over devices once for
each step, instead of once or more for each product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aigc_cli.nn.adam import fused_adamw

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at 0; Jordan et al.


class MuonAdamW(Optimizer):
    """The first group is Muon's; the others are AdamW's."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: list[dict[str, Any]],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        """`others` are groups as AdamW takes them; `weight_decay` is that of the matrices."""
        self._adamw = fused_adamw(others, lr, betas)
        muon = {"params": matrices, "lr": lr, "weight_decay": weight_decay}
        super().__init__([muon, *self._adamw.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let AdamW see its part of the groups and the state."""
        self._adamw.param_groups, self._adamw.state = self.param_groups[1:], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        with torch.enable_grad():
            loss = None if closure is None else closure()
        group = self.param_groups[0]
        lr, decay = group["lr"], group["weight_decay"]
        for p in group["params"]:
            if p.grad is None:
                continue
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.lerp_(p.grad, 1 - MOMENTUM)
            update = orthogonal(p.grad.lerp(momentum, MOMENTUM))  # Nesterov's
            p.mul_(1 - lr * decay).add_(update, alpha=-lr * 0.2 * sqrt(max(p.shape)))
        self._adamw.step()
        return loss


def orthogonal(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T (m, n), by Newton-Schulz iterations in bfloat16: singular
    values become 0.5 to 1.5.
    """
    if hasattr(matrix, "full_tensor"):  # a DTensor; importing that takes as long as half of torch
        from torch.distributed.tensor import distribute_tensor

        sharded: Any = matrix
        whole = orthogonal(sharded.full_tensor())  # the same on every device
        return distribute_tensor(whole, sharded.device_mesh, sharded.placements, src_data_rank=None)
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
