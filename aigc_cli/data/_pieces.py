"""What kinds of data that are made of whole pieces of music share: the split, and classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aigc_cli.data import midi
from aigc_cli.data._music_files import AnySources, PieceConfig, Pieces, parts_of
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data.midi import read_pieces
from aigc_cli.media.events import Events, Music
from aigc_cli.sampling.markov import Markov

OTHER = "other"


def split(
    train: AnySources, val: AnySources, events: Events, bases: Sequence[Path], *, val_only: bool
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


def suggest_meter(config: PieceConfig, *, bases: Sequence[Path] = ()) -> Suggestions:
    """The meter that most files can be read in."""
    like = midi.Config(train=config.train, resolution=config.resolution)
    return midi.suggest(like, bases=bases)


class Chains:
    """What chains of symbols make of rows, named by how far they look back: nothing without rows
    that they learn from.
    """

    def __init__(self, rows: Sequence[NDArray[np.int64]], size: int, order: int) -> None:
        orders = {"unigram": 0, "markov": order} if rows else {}
        self.chains = {name: Markov(rows, size, order) for name, order in orders.items()}

    def costs(self, row: NDArray[np.int64]) -> dict[str, Tensor]:
        """Nats of a row, by chain."""
        return {
            name: torch.tensor(-np.log(chain.probabilities(row)).sum())
            for name, chain in self.chains.items()
        }


def common_classes(labels: Sequence[str], least: int) -> tuple[str, ...]:
    """The classes that at least so many have, sorted, and OTHER where some have none of these."""
    counts = Counter(labels)
    common = sorted(name for name, count in counts.items() if count >= least and name != OTHER)
    return (*common, *([OTHER] if len(common) < len(counts) else []))
