"""Noise on the way from one sample to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from aigc_cli.sampling.noise import SampleNoise


class InterpolatedNoise(SampleNoise):
    """Row k is noise between samples k div steps and k div steps + 1 of a seed.

    Rows number first ... first + count - 1; row `steps * i` is the noise of sample i itself.
    Between two samples it is turned, not mixed: Gaussian noise of many dimensions lies near a
    sphere, and a mean of two would be shorter than any noise the model has seen (White, 2016,
    https://arxiv.org/abs/1609.04468).
    """

    def __init__(self, seed: int, first: int, count: int, *, steps: int) -> None:
        self.first, self.count = first, count
        self.numbers = range(first, first + count)
        places = [divmod(row, steps) for row in range(first, first + count)]
        self._from = [SampleNoise(seed, sample, 1) for sample, _ in places]
        self._to = [SampleNoise(seed, sample + 1, 1) for sample, _ in places]
        self._part = torch.tensor([part / steps for _, part in places])

    def randn(self, *shape: int) -> Tensor:
        """float32 (count, *shape); equal to SampleNoise's at the samples themselves."""
        start = torch.cat([noise.randn(*shape) for noise in self._from])
        end = torch.cat([noise.randn(*shape) for noise in self._to])
        return slerp(start, end, self._part)


def slerp(start: Tensor, end: Tensor, part: Tensor) -> Tensor:
    """Spherical interpolation of (B, ...) and (B, ...) at `part` (B,) in [0, 1].

    Shoemake 1985, along the arc for the directions and linear for the lengths.
    """
    a, b = start.flatten(1).double(), end.flatten(1).double()
    t = part.double()[:, None]
    length_a, length_b = a.norm(dim=1, keepdim=True), b.norm(dim=1, keepdim=True)
    cosine = ((a / length_a) * (b / length_b)).sum(1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)
    flat = angle.sin() < 1e-6  # parallel: the arc is a line
    safe = torch.where(flat, torch.ones_like(angle), angle.sin())
    left = torch.where(flat, 1 - t, ((1 - t) * angle).sin() / safe)
    right = torch.where(flat, t, (t * angle).sin() / safe)
    direction = left * a / length_a + right * b / length_b
    turned = direction * ((1 - t) * length_a + t * length_b)
    return turned.to(start.dtype).view_as(start)
