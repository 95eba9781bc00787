"""The training order is a pure function of the seed and the position."""

from __future__ import annotations

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aigc_cli.data._stream import POOL, ShardSampler, StepSampler, by_length, item_seed, permutation

seeds = st.integers(0, 2**63)
sizes = st.integers(1, 40)


def keys(n: int, **given: object) -> list[list[tuple[int, int]]]:
    return list(StepSampler(n, **given))


def lengths_of(n: int, sort: bool) -> list[int] | None:
    """Lengths of n items, several of them equal, or None for no sorting."""
    return [7 * i % 5 for i in range(n)] if sort else None


@given(
    seeds, sizes, st.integers(1, 6), st.sampled_from([1, 2, 3, 4]), st.integers(1, 6), st.booleans()
)
def test_ranks_together_read_the_single_process_order(seed, n, share, world, steps, sort):
    batch = share * world
    given = {"global_batch": batch, "seed": seed, "stop": steps, "lengths": lengths_of(n, sort)}
    alone = keys(n, **given)
    ranks = [keys(n, **given, rank=r, world=world) for r in range(world)]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone


@given(seeds, sizes, st.integers(1, 8), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_resumed_order_is_the_rest_of_the_order(seed, n, batch, start, more, sort):
    given = {"global_batch": batch, "seed": seed, "lengths": lengths_of(n, sort)}
    whole = keys(n, **given, stop=start + more)
    assert keys(n, **given, start=start, stop=start + more) == whole[start:]


@given(seeds, sizes, st.integers(1, 7), st.booleans())
def test_every_item_is_read_once_an_epoch(seed, n, batch, sort):
    read = list(
        chain(*keys(n, global_batch=batch, seed=seed, stop=3 * n, lengths=lengths_of(n, sort)))
    )
    for epoch in range(3 * batch):
        items = [index for index, _ in read[epoch * n : (epoch + 1) * n]]
        assert sorted(items) == list(range(n))


def test_no_two_items_share_a_seed():
    read = list(chain(*keys(5, global_batch=16, seed=3, stop=500)))
    assert len({seed for _, seed in read}) == len(read)


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_batches_hold_items_of_about_one_length(epoch):
    """In whole batches of the stream, also in epochs that begin inside one; in no sorted order."""
    n, batch = 1003, 8
    lengths = [item_seed(1, i) % 200 for i in range(n)]
    order = by_length(5, epoch, lengths, batch)
    start = -epoch * n % batch
    spreads, means = [], []
    for i in range(start, n - batch + 1, batch):
        group = [lengths[item] for item in order[i : i + batch]]
        spreads.append(max(group) - min(group))
        means.append(sum(group) / batch)
    assert sum(spreads) / len(spreads) < 2 * 200 / POOL
    assert means != sorted(means)
    assert sorted(order) == list(range(n))


def test_epochs_and_seeds_differ():
    orders = {permutation(s, e, 50).tobytes() for s in range(5) for e in range(5)}
    assert len(orders) == 25


def test_item_seeds_of_neighboring_runs_do_not_overlap():
    assert not {item_seed(0, p) for p in range(2000)} & {item_seed(1, p) for p in range(2000)}


@given(seeds, st.integers(0, 2**40), st.integers(0, 63))
def test_one_bit_of_the_position_changes_many_bits_of_the_seed(seed, position, bit):
    flipped = item_seed(seed, position) ^ item_seed(seed, position ^ (1 << bit))
    assert 10 <= flipped.bit_count() <= 54


def test_splitmix_reference_values():
    """Published outputs for the state 0; the mixed seed 0 is 0 too."""
    assert [item_seed(0, p) for p in range(3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


def test_order_is_shared_but_not_writable():
    with pytest.raises(ValueError):
        permutation(0, 0, 4)[0] = 1


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_shards_are_a_partition(world):
    shards = [list(ShardSampler(10, rank, world)) for rank in range(world)]
    assert sorted(chain(*shards)) == list(range(10))
    assert [len(ShardSampler(10, r, world)) for r in range(world)] == [len(s) for s in shards]


def test_items_are_python_integers():
    (index, seed) = keys(3, global_batch=1, seed=0, stop=1)[0][0]
    assert (type(index), type(seed)) == (int, int)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"n": 0, "global_batch": 2}, "at least one item"),
        ({"n": 3, "global_batch": 3, "world": 2}, r"global_batch \(3\) must be"),
    ],
)
def test_impossible_streams_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        StepSampler(given.pop("n"), seed=0, stop=1, **given)
