"""Noise belongs to a sample, whatever batch it is drawn in."""

from __future__ import annotations

import pytest
import torch

from aigc_cli.sampling.noise import SampleNoise


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("shape", [(3,), (2, 5), (4, 8, 8), ()])
def test_rows_do_not_depend_on_the_batch(batch: int, shape: tuple[int, ...]) -> None:
    whole = SampleNoise(7, first=0, count=12)
    first, second = whole.randn(*shape), whole.randn(*shape)
    assert first.shape == (12, *shape)
    parts = [SampleNoise(7, first=i, count=min(batch, 12 - i)) for i in range(0, 12, batch)]
    assert torch.equal(torch.cat([p.randn(*shape) for p in parts]), first)
    assert torch.equal(torch.cat([p.randn(*shape) for p in parts]), second)


@pytest.mark.parametrize("world", [2, 3])
def test_rows_of_every_other_sample_are_those_of_the_samples(world: int) -> None:
    whole = SampleNoise(7, first=0, count=12).randn(4)
    for rank in range(world):
        part = SampleNoise(7, first=rank, count=12 // world, step=world)
        assert list(part.numbers) == list(range(rank, 12, world))
        assert torch.equal(part.randn(4), whole[rank::world])


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    a = SampleNoise(1, 0, 2).randn(5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(SampleNoise(1, 0, 2).randn(5), a)


def test_seeds_and_samples_share_nothing() -> None:
    """`seed + index` as a seed would make sample 1 of seed 0 equal sample 0 of seed 1."""
    rows = torch.cat([SampleNoise(seed, 0, 10).randn(40) for seed in (-1, 0, 1, 2, 2**63)])
    assert len(torch.unique(rows, dim=0)) == 50
    correlation = torch.corrcoef(rows).fill_diagonal_(0)
    assert correlation.abs().max() < 0.75


def test_is_standard_normal() -> None:
    x = SampleNoise(0, 0, 200).randn(500)
    assert x.mean().abs() < 0.02
    assert (x.std() - 1).abs() < 0.02
    assert (x.mean(1).std() - 500**-0.5).abs() < 0.01  # rows are independent
