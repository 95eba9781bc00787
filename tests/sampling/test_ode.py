"""The solvers against exact solutions and their orders."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aigc_cli.sampling.ode import SOLVERS, uniform_times

ORDERS = {"euler": 1, "midpoint": 2, "heun": 2}
EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2}


@pytest.mark.parametrize("name", SOLVERS)
def test_error_falls_with_the_order_on_a_linear_system(name: str) -> None:
    A = torch.tensor([[-1.0, 2.0], [-2.0, -0.5]], dtype=torch.float64)
    start = torch.tensor([[1.0, -1.0], [0.5, 2.0]], dtype=torch.float64)
    exact = start @ torch.linalg.matrix_exp(A).T

    def error(steps: int) -> float:
        made = SOLVERS[name](lambda x, t: x @ A.T, start, uniform_times(steps))
        return float((made - exact).abs().max())

    assert math.log2(error(64) / error(128)) == pytest.approx(ORDERS[name], abs=0.1)


@pytest.mark.parametrize("name", SOLVERS)
def test_error_falls_with_the_order_where_time_counts(name: str) -> None:
    start = torch.ones(1, dtype=torch.float64)
    exact = math.exp(math.sin(3.0))  # dx/dt = 3 cos(3 t) x

    def error(steps: int) -> float:
        made = SOLVERS[name](lambda x, t: 3 * math.cos(3 * t) * x, start, uniform_times(steps))
        return abs(float(made) - exact)

    assert math.log2(error(128) / error(256)) == pytest.approx(ORDERS[name], abs=0.2)


@pytest.mark.parametrize("name", SOLVERS)
def test_straight_paths_need_one_step(name: str) -> None:
    start = torch.zeros(2, 3)
    made = SOLVERS[name](lambda x, t: torch.ones_like(x), start, uniform_times(1))
    torch.testing.assert_close(made, torch.ones(2, 3))
    assert torch.equal(start, torch.zeros(2, 3))  # the start is left alone


@pytest.mark.parametrize("name", SOLVERS)
def test_evaluations_are_counted_and_stay_in_the_range_of_times(name: str) -> None:
    asked: list[float] = []

    def velocity(x: Tensor, t: float) -> Tensor:
        asked.append(t)
        return x

    SOLVERS[name](velocity, torch.ones(1), uniform_times(5))
    assert len(asked) == 5 * EVALUATIONS[name]
    assert min(asked) == 0
    assert max(asked) <= 1


@pytest.mark.parametrize("name", SOLVERS)
def test_uneven_times_and_backwards(name: str) -> None:
    def velocity(x: Tensor, t: float) -> Tensor:
        return x * (1 + t)

    start = torch.ones(1, dtype=torch.float64)
    times = [(k / 400) ** 2 for k in range(401)]
    there = SOLVERS[name](velocity, start, times)
    assert float(there) == pytest.approx(math.exp(1.5), rel=1e-2)
    back = SOLVERS[name](velocity, there, times[::-1])
    assert float(back) == pytest.approx(1.0, rel=2e-2)
