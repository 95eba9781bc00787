"""Work over several processes whose results come in the order of their numbers."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from typing import Any, Protocol

from torch.utils.data import DataLoader

FEW = 256  # items that are faster done than processes started
CHUNK = 16  # items a process takes at a time


class Numbered(Protocol):
    """Item n follows from n alone, so that it does not matter who makes it."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


def in_order(items: Numbered, workers: int | None = None, first: int = 0) -> Iterator[Any]:
    """Each item from `first` on, made by `workers` processes (None: one for each core; 0: this
    one), at most a few chunks ahead of who takes them.
    """
    count = len(items) - first
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        workers = cores if count >= FEW else 0
    if workers == 0 or count <= 0:
        yield from (items[number] for number in range(first, len(items)))
        return
    with warnings.catch_warnings():  # more processes than cores are the caller's wish
        warnings.filterwarnings("ignore", "This DataLoader will create")
        loader: DataLoader[Any] = DataLoader(
            items,  # type: ignore[arg-type]
            batch_size=CHUNK,
            sampler=range(first, len(items)),
            num_workers=workers,
            collate_fn=list,
            worker_init_fn=_begin,
        )
    for chunk in loader:
        yield from chunk


def _begin(_: int) -> None:
    """Who started us is who ends on a signal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
