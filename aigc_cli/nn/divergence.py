"""Divergences between distributions in closed form."""

from __future__ import annotations

from torch import Tensor


def kl_to_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) in nats, elementwise: the shape of `mu`."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)
