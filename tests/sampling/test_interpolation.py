"""Between two samples the noise is turned along the sphere."""

from __future__ import annotations

import pytest
import torch

from aigc_cli.sampling.interpolation import InterpolatedNoise, slerp
from aigc_cli.sampling.noise import SampleNoise


def test_it_passes_through_the_samples() -> None:
    way = InterpolatedNoise(3, 0, 9, steps=4)
    samples = SampleNoise(3, 0, 3)
    for _ in range(2):  # every further draw as well
        rows, ends = way.randn(2, 5), samples.randn(2, 5)
        torch.testing.assert_close(rows[::4], ends)


def test_rows_do_not_depend_on_the_batch() -> None:
    whole = InterpolatedNoise(1, 0, 7, steps=3).randn(6)
    parts = [InterpolatedNoise(1, first, 1, steps=3).randn(6) for first in range(7)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("part", [0.0, 0.25, 0.5, 1.0])
def test_lengths_change_linearly_and_angles_too(part: float) -> None:
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    made = slerp(start, end, torch.tensor([part]))
    angle = torch.tensor(part * torch.pi / 2)
    expected = (2 + 2 * part) * torch.stack([angle.cos(), angle.sin()])
    torch.testing.assert_close(made, expected[None])


def test_parallel_noise_is_mixed() -> None:
    a = torch.tensor([[1.0, 2.0]])
    torch.testing.assert_close(slerp(a, 3 * a, torch.tensor([0.5])), 2 * a)
