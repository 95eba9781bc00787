"""The history of fakes: what it returns, what it keeps, and that a checkpoint has all of it."""

from __future__ import annotations

import torch
from torch import Tensor

from aigc_cli.nn.image_pool import ImagePool


def numbered(first: int, count: int) -> Tensor:
    return torch.arange(first, first + count).float().view(-1, 1, 1, 1)


def choices(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))


def test_the_first_pictures_are_returned_and_kept() -> None:
    pool = ImagePool(50, (1, 1, 1))
    for first in range(0, 50, 5):
        assert torch.equal(pool.exchange(numbered(first, 5), choices(5)), numbered(first, 5))
    assert torch.equal(pool.images, numbered(0, 50))
    assert pool.filled.item() == 50


def test_afterwards_half_are_exchanged_for_kept_ones() -> None:
    pool = ImagePool(50, (1, 1, 1))
    pool.exchange(numbered(0, 50), choices(50))
    shown = pool.exchange(numbered(50, 2000), choices(2000, 1))
    older = (shown != numbered(50, 2000)).flatten()
    assert 900 < older.sum() < 1100
    # nothing is lost or doubled: every image was shown once or is still kept
    everything = torch.cat([shown, pool.images]).flatten().sort().values
    assert torch.equal(everything, numbered(0, 2050).flatten())


def test_every_slot_is_used_about_equally() -> None:
    pool = ImagePool(10, (1, 1, 1))
    pool.exchange(numbered(0, 10), choices(10))
    draws = choices(4000, 2)
    pool.exchange(numbered(10, 4000), draws)
    counts = torch.bincount((draws[draws[:, 0] < 0.5, 1] * 10).long(), minlength=10)
    assert counts.min() > 150
    assert pool.images.min() > 3000  # all of the first have gone


def test_a_batch_is_the_same_as_its_pictures_one_by_one() -> None:
    images, drawn = numbered(0, 40), choices(40)
    at_once, one_by_one = ImagePool(7, (1, 1, 1)), ImagePool(7, (1, 1, 1))
    shown = at_once.exchange(images, drawn)
    single = [one_by_one.exchange(images[i : i + 1], drawn[i : i + 1]) for i in range(40)]
    assert torch.equal(shown, torch.cat(single))
    assert torch.equal(at_once.images, one_by_one.images)


def test_a_checkpoint_has_the_whole_history() -> None:
    pool, restored = ImagePool(8, (1, 2, 2)), ImagePool(8, (1, 2, 2))
    images = torch.rand(20, 1, 2, 2)
    pool.exchange(images[:13], choices(13))
    restored.load_state_dict(pool.state_dict())
    drawn = choices(7, 1)
    assert torch.equal(pool.exchange(images[13:], drawn), restored.exchange(images[13:], drawn))


def test_pictures_of_another_size_leave_the_pool_empty() -> None:
    """As `init_from` does, which takes over the tensors that fit."""
    full, other = ImagePool(2, (1, 2, 2)), ImagePool(2, (1, 4, 4))
    full.exchange(torch.rand(2, 1, 2, 2), choices(2))
    fitting = {"filled": full.state_dict()["filled"]}
    other.load_state_dict(fitting, strict=False)
    assert other.filled.item() == 0


def test_a_pool_of_size_zero_shows_the_newest() -> None:
    pool = ImagePool(0, (1, 1, 1))
    assert torch.equal(pool.exchange(numbered(3, 4), choices(4)), numbered(3, 4))
