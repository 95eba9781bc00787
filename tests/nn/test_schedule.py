"""Schedules against torch's own and in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from aigc_cli.nn.schedule import lr_multiple
from aigc_cli.recipe.sections import Schedule


@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step", "inverse_sqrt"])
def test_warm_up_is_linear_and_reaches_the_full_rate(name: str) -> None:
    schedule = Schedule(name=name, warmup=4)  # type: ignore[arg-type]
    assert [lr_multiple(schedule, t, 100) for t in range(4)] == pytest.approx([0.25, 0.5, 0.75, 1])


def test_cosine_equals_torch() -> None:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.1)
    for step in range(50):
        ours = lr_multiple(Schedule(name="cosine", final=0.1), step, 50)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_step_halves_as_in_the_edsr_paper() -> None:
    schedule = Schedule(name="step", every=200_000, gamma=0.5)
    values = [lr_multiple(schedule, t, 300_000) for t in (0, 199_999, 200_000, 299_999)]
    assert values == [1, 1, 0.5, 0.5]


def test_linear_starts_late_and_ends_at_final() -> None:
    schedule = Schedule(name="linear", start=0.5, final=0.2)
    values = [lr_multiple(schedule, t, 100) for t in (0, 50, 75, 100)]
    assert values == pytest.approx([1, 1, 0.6, 0.2])


def test_cosine_is_monotone_after_warm_up() -> None:
    values = [lr_multiple(Schedule(name="cosine", warmup=5), t, 60) for t in range(5, 60)]
    assert values == sorted(values, reverse=True)
    assert math.isclose(values[0], 1.0)


def test_inverse_sqrt_is_the_rate_of_the_transformer() -> None:
    """d^-0.5 min(step^-0.5, step warmup^-1.5), in multiples of its largest value."""
    schedule = Schedule(name="inverse_sqrt", warmup=40)
    for step in range(400):
        rate = min((step + 1) ** -0.5, (step + 1) * 40**-1.5) / 40**-0.5
        assert lr_multiple(schedule, step, 400) == pytest.approx(rate)
    assert lr_multiple(Schedule(name="inverse_sqrt"), 3, 400) == pytest.approx(0.5)


def test_warm_up_stable_decay_is_a_late_linear() -> None:
    schedule = Schedule(name="linear", warmup=10, start=0.8, final=0.0)
    values = [lr_multiple(schedule, t, 100) for t in (4, 9, 50, 80, 90, 99)]
    assert values == pytest.approx([0.5, 1, 1, 1, 0.5, 0.05])
