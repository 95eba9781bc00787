"""How far apart the harmony of instruments is: TD of MuseGAN (Dong et al., 2018,
https://arxiv.org/abs/1709.06298), in the space of Harte, Sandler and Gasser, 2006.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, Music
from aigc_cli.metrics.music._music import MusicMetric

CIRCLES = ((7 / 6, 1.0), (3 / 2, 1.0), (2 / 3, 0.5))
"""Half turns of a semitone on the circles of fifths, minor and major thirds, and their radii."""


def centroids(chroma: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 12) of shares -> (T, 6)."""
    angle = np.pi * np.arange(12)
    axes = [r * f(turn * angle) for turn, r in CIRCLES for f in (np.sin, np.cos)]
    found: NDArray[np.float64] = chroma @ np.stack(axes, 1)
    return found


class Metric(MusicMetric):
    """Mean distance of the tonal centroids of two instruments at quarters in which both sound."""

    higher_is_better = False
    unit = "0-3"
    protocol = "Euclidean distance of 6-D centroids (Harte 2006), a quarter each, over all pairs"

    def compute(self, thing: Music) -> float:
        beats = thing.bars * thing.beats_per_bar
        tracks = [t for t in np.unique(thing.notes[:, 3]) if t != INSTRUMENTS - 1]
        chroma = np.zeros((len(tracks), beats * thing.resolution, 12))
        for start, duration, pitch, instrument in thing.notes.tolist():
            if instrument in tracks:
                chroma[tracks.index(instrument), start : start + duration, pitch % 12] += 1
        chroma = chroma.reshape(len(tracks), beats, thing.resolution, 12).sum(2)
        sounds = chroma.sum(2) > 0
        places = [centroids(c / np.maximum(c.sum(1, keepdims=True), 1)) for c in chroma]
        found = [
            np.linalg.norm(places[a] - places[b], axis=1)[sounds[a] & sounds[b]]
            for a, b in combinations(range(len(tracks)), 2)
        ]
        if not found or not len(values := np.concatenate(found)):
            raise DataError("a piece has no two instruments that sound together")
        return float(values.mean())
