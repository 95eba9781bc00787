"""Features of pieces, and how alike two sets are in them.

Yang and Lerch, "On the evaluation of generative models in music", 2020,
https://doi.org/10.1007/s00521-018-3849-7: distances between the pieces of a set, and from one set
to another, each as a density. Differs from the authors' program: both densities are read on one
grid, so that their divergence is one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aigc_cli.media.events import INSTRUMENTS, Music
from aigc_cli.metrics._things import Side

Floats = NDArray[np.float64]
POINTS = 1_000  # at which densities are read
MOST = 1_000  # pieces of a set that are compared
LENGTHS = (1 / 8, 1 / 6, 1 / 4, 1 / 3, 3 / 8, 1 / 2, 3 / 4, 1, 3 / 2, 2, 3, 4)
"""Of notes, in quarters: twelve kinds, of which each note has the nearest."""


def features_of(music: Music) -> dict[str, Floats]:
    """By name a vector each."""
    notes = music.notes[music.notes[:, 3] != INSTRUMENTS - 1]
    notes = notes[np.lexsort((notes[:, 2], notes[:, 0]))]
    start, duration, pitch = (notes[:, column] for column in range(3))
    bars = max(music.bars, 1)
    used = [len(set(pitch[start // music.steps_per_bar == bar].tolist())) for bar in range(bars)]
    kind = np.abs(np.log(duration[:, None] / music.resolution) - np.log(np.array(LENGTHS))).argmin(
        1
    )
    onsets = np.unique(start)
    several = len(notes) > 1
    return {
        "pitch_count": np.array([len(set(pitch.tolist()))], float),
        "pitch_count_bar": np.array([np.mean(used)]),
        "note_count": np.array([len(notes)], float),
        "note_count_bar": np.array([len(notes) / bars]),
        "pitch_classes": _shares(pitch % 12, 12),
        "pitch_class_transitions": _transitions(pitch % 12, 12),
        "pitch_range": np.array([np.ptp(pitch) if len(notes) else 0], float),
        "pitch_interval": np.array([np.abs(np.diff(pitch)).mean() if several else 0.0]),
        "onset_interval": np.array(
            [np.diff(onsets).mean() / music.resolution if len(onsets) > 1 else 0.0]
        ),
        "note_lengths": _shares(kind, len(LENGTHS)),
        "note_length_transitions": _transitions(kind, len(LENGTHS)),
    }


def _shares(numbers: NDArray[np.int64], size: int) -> Floats:
    counts = np.bincount(numbers, minlength=size).astype(float)
    return counts / max(counts.sum(), 1)


def _transitions(numbers: NDArray[np.int64], size: int) -> Floats:
    return _shares(numbers[:-1] * size + numbers[1:], size * size)


def distances(a: Floats, b: Floats | None = None) -> Floats:
    """Euclidean, of the rows of a (n, D) to those of b (m, D): all n m; or to each other, once."""
    other = a if b is None else b
    squares = (a**2).sum(1)[:, None] + (other**2).sum(1)[None] - 2 * a @ other.T
    found: Floats = np.sqrt(squares.clip(min=0))
    return found[np.triu_indices(len(a), 1)] if b is None else found.ravel()


def alike(within: Floats, between: Floats) -> tuple[float, float]:
    """The area under both densities of distances, 1 for equal ones, and the divergence of the first
    from the second in nats, on one grid.
    """
    low, high = min(within.min(), between.min()), max(within.max(), between.max())
    if high - low < 1e-12:
        return 1.0, 0.0
    margin = 0.1 * (high - low)
    grid = np.linspace(low - margin, high + margin, POINTS)
    p, q = (_density(values, grid) for values in (within, between))
    step = grid[1] - grid[0]
    tiny = 1e-12
    divergence = float((p * np.log((p + tiny) / (q + tiny))).sum() * step)
    return float(np.minimum(p, q).sum() * step), divergence


def _density(values: Floats, grid: Floats) -> Floats:
    """Gaussian kernels of Scott's width over values, which are first counted at the points of the
    grid; the sum over the grid is 1.
    """
    step = grid[1] - grid[0]
    counts = np.histogram(values, len(grid), (grid[0] - step / 2, grid[-1] + step / 2))[0]
    width = max(values.std(ddof=1) * len(values) ** -0.2, step)
    kernel = np.exp(-0.5 * ((grid - grid[(len(grid) - 1) // 2]) / width) ** 2)
    found: Floats = np.convolve(counts, kernel, "same")
    return found / (found.sum() * step)


def compared(side: Side) -> dict[str, tuple[float, float]]:
    """Overlap and divergence of each feature, of a set beside the real one."""
    real = side.real_things
    assert real is not None

    def rows(pieces: Sequence[Music]) -> dict[str, Floats]:
        found = [features_of(music) for music in pieces]
        return {name: np.stack([one[name] for one in found]) for name in found[0]}

    def compute() -> dict[str, tuple[float, float]]:
        made = rows(side.things.read(range(min(len(side.things), MOST))))
        truth = rows(real.read(range(min(len(real), MOST))))
        return {
            name: alike(distances(made[name]), distances(made[name], truth[name])) for name in made
        }

    return side.once("alike", compute)
