"""A recording of speech as a vector that says whose voice it is: three LSTM layers on mel bands.

Wan et al., "Generalized End-to-End Loss for Speaker Verification", 2018,
https://arxiv.org/abs/1710.10467, laid out as the weights of the package Resemblyzer, whose bands
are of power and not of its logarithm. Differs from that package: silence is not cut out.
"""

from __future__ import annotations

from math import ceil, log, log10

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SAMPLE_RATE, BANDS, UNITS = 16_000, 40, 256
WINDOW, HOP = 400, 160  # samples: 25 and 10 ms
FRAMES, STEP = 160, 77  # of a stretch of 1.6 s, and between the beginnings of two
LOUDNESS = -30  # dB of full scale; softer recordings are raised to it


def filters() -> Tensor:
    """(WINDOW / 2 + 1, BANDS): triangles of equal area on Slaney's scale, which is linear up to
    1,000 Hz and logarithmic above, from 0 Hz to half the rate.
    """
    octave = 27 / log(6.4)  # steps of the logarithmic part in a factor of e
    top = 15 + octave * log(SAMPLE_RATE / 2 / 1000)
    at = torch.linspace(0, top, BANDS + 2, dtype=torch.float64)
    edges = torch.where(at < 15, at * 200 / 3, 1000 * ((at - 15) / octave).exp())
    hertz = torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)[:, None]
    up = (hertz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - hertz) / (edges[2:] - edges[1:-1])
    return (torch.minimum(up, down).clamp(min=0) * 2 / (edges[2:] - edges[:-2])).float()


class VoiceEncoder(nn.Module):
    """Stretches (N, FRAMES, BANDS) -> vectors (N, UNITS) of length 1, none of them negative."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, UNITS, 3, batch_first=True)
        self.linear = nn.Linear(UNITS, UNITS)

    def forward(self, bands: Tensor) -> Tensor:
        _, (h, _) = self.lstm(bands)  # (3, N, UNITS)
        return F.normalize(self.linear(h[-1]).relu(), dim=1)


def stretches(samples: Tensor) -> Tensor:
    """Samples (T,) at SAMPLE_RATE -> (N, FRAMES, BANDS); what is shorter ends in silence."""
    power = samples.square().mean()
    if power > 0:
        samples = samples * max(1.0, 10 ** ((LOUDNESS - 10 * log10(float(power))) / 20))
    count = 1 + ceil(max(len(samples) / HOP - FRAMES, 0) / STEP)
    whole = (FRAMES + (count - 1) * STEP) * HOP
    spectrum = torch.stft(
        F.pad(samples, (0, max(whole - len(samples), 0))), WINDOW, HOP,
        window=torch.hann_window(WINDOW), pad_mode="constant", return_complex=True,
    )  # (bins, frames)  # fmt: skip
    bands = spectrum.abs().square().T @ filters()  # (frames, BANDS)
    return bands.unfold(0, FRAMES, STEP)[:count].transpose(1, 2)
