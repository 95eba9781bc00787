"""Statistics of log-mel spectrograms: features of sound that need no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import torch
from torch import Tensor

from aigc_cli.metrics._things import Extractor, Features
from aigc_cli.nn.mel import LogMel

SAMPLE_RATE, BANDS = 16_000, 40


@lru_cache(maxsize=1)
def _spectrogram() -> LogMel:
    return LogMel(SAMPLE_RATE, BANDS)


class MelStatistics(Extractor):
    """Mean and deviation over time of BANDS bands of a sound at SAMPLE_RATE: 2 x BANDS numbers."""

    stamp = f"mel: mean and deviation of {BANDS} log-mel bands"
    resize = f"resampled to {SAMPLE_RATE:,} Hz"
    layers = ("mel",)
    labels = None
    digest = f"mel statistics {SAMPLE_RATE} {BANDS} 1"

    def see(self, things: Sequence[Any]) -> Iterator[Features]:
        for sound in things:
            samples = torch.from_numpy(sound.at(SAMPLE_RATE).samples)
            bands = _spectrogram()(samples[None])[0].double()  # (BANDS, frames)
            spread = bands.std(1, unbiased=False)
            yield Features(torch.cat([bands.mean(1), spread])[None].float())

    def __call__(self, images: Tensor) -> NoReturn:
        raise TypeError("sounds are seen one by one")

    def distance(self, a: Tensor, b: Tensor) -> NoReturn:
        raise TypeError("sounds have no perceptual distance")
