"""What every kind of data is to those who train, evaluate and show: a spec, two sets of items."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from aigc_cli.data._stream import Key
from aigc_cli.errors import InputError
from aigc_cli.specs import Spec

Item = dict[str, Any]
SAMPLED = 4  # items of each set that a digest reads
CONTENT = "content:"  # how a digest of all content begins; others are not compared with it


class Items(Protocol):
    """Items by number. A set may also have `collate`, which makes a batch of several, as in torch's
    DataLoader, and `lengths` (n,), by which batches are made of about equally long ones.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item: ...


class TrainItems(Protocol):
    """Items by (number, seed): all that is random in one follows from the seed."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key, /) -> Item: ...


class Described(Protocol):
    """What was found in a source. It may also have `content`, a digest of all that is in it."""

    def as_dict(self) -> dict[str, Any]: ...


@runtime_checkable
class DataSource(Protocol):
    """A `Data` of data/<kind>.py: everything is found and checked when it is built."""

    spec: Spec
    train: Any
    """`TrainItems`."""
    val: Any
    """`Items`."""
    val_batch_size: int | None
    """Items of a validation batch; None where they are alike, and any number fits."""
    report: Mapping[str, Any]
    """`Described` of `data.train` and `data.val`."""

    def start_background(self) -> None:
        """Prepare what can be prepared ahead of training, in a thread."""

    def stop_background(self) -> None:
        """End that thread; called whatever happens."""


class Prepared:
    """Base of a `Data` that is whole once it is built and has items that are alike."""

    val_batch_size: int | None = None

    def start_background(self) -> None:
        """Nothing is prepared ahead."""

    def stop_background(self) -> None:
        """Nothing is prepared ahead."""


def require_source(data: Any) -> None:
    """See that a `Data` has what is promised of every kind.

    Raises:
        InputError: it has not; names the file.
    """
    wanted = [*DataSource.__annotations__, "start_background", "stop_background"]
    if absent := [name for name in wanted if not hasattr(data, name)]:
        file = sys.modules[type(data).__module__].__file__
        raise InputError(f"{file}: Data has no {', '.join(absent)}", code="family")


def data_digest(data: DataSource) -> str:
    """Digest of what is learned from: the spec, the reports without their places, the numbers of
    items, and their content. Moved or copied data is the same, and one other pixel, letter or class
    is other data.

    Where a kind of data does not tell the `content` of its reports, a few items of both sets stand
    for all of them, and a change in a few others is not seen.
    """
    state = hashlib.sha256()
    contents = [getattr(report, "content", None) for report in data.report.values()]
    reports = {key: _placeless(report.as_dict()) for key, report in data.report.items()}
    counts = [len(data.train), len(data.val)]
    text = json.dumps([data.spec.as_dict(), reports, counts], sort_keys=True, default=str)
    state.update(text.encode())
    if contents and all(contents):
        state.update(repr(contents).encode())
        return f"{CONTENT}{state.hexdigest()}"
    for number in _evenly(len(data.train)):
        _add(state, data.train[(number, 0)])
    for number in _evenly(len(data.val)):
        _add(state, data.val[number])
    return state.hexdigest()


def _placeless(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key not in ("source", "name", "bad")}


def _evenly(count: int) -> list[int]:
    """The first, the last and some numbers between."""
    return sorted({round(i * (count - 1) / (SAMPLED - 1)) for i in range(SAMPLED)}) if count else []


def _add(state: Any, item: Item) -> None:
    for name, value in sorted(item.items()):
        state.update(name.encode())
        if isinstance(value, Tensor):
            state.update(value.contiguous().numpy().tobytes())
        else:
            state.update(repr(value).encode())
