"""Solvers of dx/dt = v(x, t) in fixed steps, as pure functions of the velocity.

One step costs one evaluation of the velocity for `euler`, whose error falls with the step size, and
two for `midpoint` and `heun`, whose error falls with its square (Hairer, Norsett and Wanner,
"Solving Ordinary Differential Equations I", 1993, chapter II.1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""v(x, t): the same shape as x."""
Solver = Callable[[Velocity, Tensor, Sequence[float]], Tensor]
"""x at the last of the given times, from x at the first."""


def euler(v: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """First order: along the tangent at the start of each step."""
    for t, t_next in pairwise(times):
        x = x + (t_next - t) * v(x, t)
    return x


def midpoint(v: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Second order: along the velocity in the middle of each step."""
    for t, t_next in pairwise(times):
        h = t_next - t
        x_mid = x + h / 2 * v(x, t)
        x = x + h * v(x_mid, t + h / 2)
    return x


def heun(v: Velocity, x: Tensor, times: Sequence[float]) -> Tensor:
    """Second order: along the mean of the velocities at both ends of each step."""
    for t, t_next in pairwise(times):
        h = t_next - t
        d = v(x, t)
        d_next = v(x + h * d, t_next)
        x = x + h / 2 * (d + d_next)
    return x


SOLVERS: dict[str, Solver] = {"euler": euler, "midpoint": midpoint, "heun": heun}


def uniform_times(steps: int) -> list[float]:
    """steps + 1 times from 0 to 1."""
    return [k / steps for k in range(steps + 1)]
