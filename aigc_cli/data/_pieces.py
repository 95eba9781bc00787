"""What kinds of data that are made of whole pieces of music share: the split, and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from aigc_cli.data._images import Sources
from aigc_cli.data._rows import HeldOut
from aigc_cli.data.midi import Pieces, read_pieces
from aigc_cli.errors import DataError
from aigc_cli.media.events import Events

OTHER = "other"


def split(
    train: Sources, val: Sources, events: Events, bases: Sequence[Path], *, val_only: bool
) -> dict[str, Pieces]:
    """The pieces of `data.train` and `data.val`, split by file; with `val_only` of the latter,
    where it names other files.

    Raises:
        DataError: a source is absent, no file in it can be used, or one would have to do both.
    """
    held = HeldOut.parse(val)
    if held is None:
        parts = {} if val_only else {
            "data.train": read_pieces(train, events, bases=bases, key="data.train")
        }  # fmt: skip
        return {**parts, "data.val": read_pieces(val, events, bases=bases, key="data.val")}
    whole = read_pieces(train, events, bases=bases, key="data.train")
    count = len(whole.music)
    if count < 2:
        raise DataError(
            f"data.train: one piece in {whole.source!r} cannot train and validate",
            hint="give more, or set data.val",
        )
    out = set(held.numbers(count))
    rest = [number for number in range(count) if number not in out]
    return {
        "data.train": whole.some(rest, skipped=True),
        "data.val": whole.some(sorted(out), skipped=False),
    }


def common_classes(labels: Sequence[str], least: int) -> tuple[str, ...]:
    """The classes that at least so many have, sorted, and OTHER where some have none of these."""
    counts = Counter(labels)
    common = sorted(name for name, count in counts.items() if count >= least and name != OTHER)
    return (*common, *([OTHER] if len(common) < len(counts) else []))
