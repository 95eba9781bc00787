"""Which items a set keeps and how many new ones each class gets: numbers only, no contents."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from aigc_cli.errors import DataError, InputError, did_you_mean

MOST = 100_000_000  # new items of a set

Members = dict[str, list[int]]
"""Item numbers by class, in the order of the classes; one class "" where there are none."""


def members_of(labels: Sequence[str] | None, count: int) -> Members:
    """The items of each class, classes as everywhere: numbers by value, then names."""
    if labels is None:
        return {"": list(range(count))}
    found: Members = {}
    for number, label in enumerate(labels):
        found.setdefault(label, []).append(number)
    return {label: found[label] for label in sorted(found, key=_order)}


def _order(name: str) -> tuple[bool, int, str]:
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def parse_keep(text: str, count: int) -> float:
    """`5%` or `1000` as the share of `count` items that is kept.

    Raises:
        InputError: it is neither, keeps nothing, or more than there is.
    """
    digits = text.removesuffix("%")
    try:
        share = float(digits) / 100 if text.endswith("%") else int(digits) / count
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(
            f"{text!r} is no part of {count:,} items",
            hint="give a number of them or a share: 1000, 5%",
        )
    return share


def kept(members: Members, share: float, seed: int) -> Members:
    """That share of each class, at random; the total is the share of all, rounded."""
    exact = {label: share * len(items) for label, items in members.items()}
    sizes = {label: int(size) for label, size in exact.items()}
    missing = round(share * sum(map(len, members.values()))) - sum(sizes.values())
    for label in sorted(exact, key=lambda c: sizes[c] - exact[c])[:missing]:
        sizes[label] += 1
    return _first(members, sizes, seed)


def long_tailed(members: Members, ratio: float, seed: int) -> Members:
    """Class sizes that fall exponentially, the last of them `ratio` times below the first.

    Cui et al., 2019, https://arxiv.org/abs/1901.05555
    """
    most, last = max(map(len, members.values())), max(1, len(members) - 1)
    sizes = {
        label: min(len(items), max(1, round(most * ratio ** (-i / last))))
        for i, (label, items) in enumerate(members.items())
    }
    return _first(members, sizes, seed)


def _first(members: Members, sizes: Mapping[str, int], seed: int) -> Members:
    return {
        label: sorted(shuffled(items, seed, i)[: sizes[label]].tolist())
        for i, (label, items) in enumerate(members.items())
    }


def shuffled(items: Sequence[int], seed: int, stream: int) -> np.ndarray:
    return np.random.default_rng([seed, stream]).permutation(items)


def sizes_after(
    members: Members, factor: float, balance: str | None, classes: Sequence[str]
) -> dict[str, int]:
    """How large each class becomes: `factor` times as large, or where `balance` is said all as
    large as the largest ("classes") or so many, times `factor`. Only `classes` grow, where given.

    Raises:
        InputError: an unknown class, a factor below 1, or sizes that are no number.
        DataError: a class that shall grow has one item.
    """
    if not 1 <= factor < math.inf:
        lost = factor < 1
        raise InputError(
            f"--factor {factor:g}: {'the set would lose items' if lost else 'is no number'}",
            hint="give 1 or more; 2 doubles it",
        )
    if "" in members and (balance is not None or classes):
        raise InputError(
            "the items have no classes, so there is nothing to balance",
            hint="put them in folders named after their classes, or give --factor",
        )
    for name in classes:
        if name not in members:
            raise InputError(f"--classes: unknown class '{name}'", hint=did_you_mean(name, members))
    size = _size(balance, members)
    after = {}
    for label, items in members.items():
        grows = not classes or label in classes
        base = len(items) if size is None else max(len(items), size)
        after[label] = max(len(items), round(base * factor)) if grows else len(items)
        if after[label] > len(items) == 1 and label:
            raise DataError(
                f"class '{label}' has one item to train on: all new ones would be that one again",
                hint="add items of it, or name the classes that grow with --classes",
            )
    new = sum(after.values()) - sum(map(len, members.values()))
    if new > MOST:
        asked = f"--factor {factor:g}" if balance is None else f"--balance {balance}"
        raise InputError(
            f"{asked}: {new:,} new items, and at most {MOST:,} are made", hint="give a smaller one"
        )
    return after


def _size(balance: str | None, members: Members) -> int | None:
    if balance is None:
        return None
    if balance == "classes":
        return max(map(len, members.values()))
    if balance.isdecimal() and int(balance):
        return int(balance)
    raise InputError(
        f"--balance {balance}: is neither 'classes' nor a size",
        hint="--balance classes makes all as large as the largest; --balance 500 gives a size",
    )


@dataclass(frozen=True)
class Plan:
    """New items by number: those of the first class, then of the next. Item j of a class varies
    its j-th item in a random order, over and over.
    """

    members: Members
    after: Mapping[str, int]
    seed: int

    @cached_property
    def new(self) -> dict[str, int]:
        """How many each class gets."""
        return {label: self.after[label] - len(items) for label, items in self.members.items()}

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.new.values()))

    @cached_property
    def _orders(self) -> dict[str, np.ndarray]:
        return {
            label: shuffled(items, self.seed, i + len(self.members))
            for i, (label, items) in enumerate(self.members.items())
        }

    def __len__(self) -> int:
        return self._ends[-1]

    def job(self, number: int) -> tuple[str, int]:
        """Class of new item `number`, and the item it is made of."""
        place = bisect_right(self._ends, number)
        label = list(self.members)[place]
        return label, self.item(label, number - (self._ends[place - 1] if place else 0))

    def item(self, label: str, number: int) -> int:
        """The item that new item `number` of a class is made of."""
        order = self._orders[label]
        return int(order[number % len(order)])
