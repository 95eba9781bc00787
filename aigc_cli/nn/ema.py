"""Moving average of weights.

Polyak and Juditsky, 1992; the warm-up min(decay, (1 + t) / (10 + t)) is the one of TensorFlow's
ExponentialMovingAverage. Lightning's own callback averages discriminators too and counts optimizer
steps instead of iterations, so an even period never fires with two optimizers; hence this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Averages the parameters of `module`; its buffers are copied, since averaging counters is
    meaningless.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._module = module
        self._params = dict(module.named_parameters())
        self._shadow = {k: p.detach().clone() for k, p in self._params.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the current weights after training iteration `step`, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self._shadow.values()), [p.detach() for p in self._params.values()], 1 - decay
        )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the module has the averaged weights; afterwards its own, bit for bit."""
        own = {k: p.detach().clone() for k, p in self._params.items()}
        self._copy(self._shadow)
        try:
            yield
        finally:
            self._copy(own)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._shadow)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for key, value in self._shadow.items():
            value.copy_(state[key])

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for key, param in self._params.items():
            param.copy_(values[key])
