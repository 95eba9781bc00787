"""What kinds of data that are made of whole pieces of music share: the split, and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from aigc_cli.data._images import Sources
from aigc_cli.data._music_files import Pieces, parts_of
from aigc_cli.data.midi import read_pieces
from aigc_cli.media.events import Events, Music

OTHER = "other"


def split(
    train: Sources, val: Sources, events: Events, bases: Sequence[Path], *, val_only: bool
) -> dict[str, Pieces[Music]]:
    """The pieces of `data.train` and `data.val`, split by file; with `val_only` of the latter,
    where it names other files.

    Raises:
        DataError: a source is absent, no file in it can be used, or one would have to do both.
    """
    return parts_of(
        train, val,
        lambda source, key: read_pieces(source, events, bases=bases, key=key),
        val_only=val_only,
    )  # fmt: skip


def common_classes(labels: Sequence[str], least: int) -> tuple[str, ...]:
    """The classes that at least so many have, sorted, and OTHER where some have none of these."""
    counts = Counter(labels)
    common = sorted(name for name, count in counts.items() if count >= least and name != OTHER)
    return (*common, *([OTHER] if len(common) < len(counts) else []))
