"""Log-mel spectrograms: sound as a picture whose rows are as far apart as the ear hears them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = 1e-6


def mel(hertz: Tensor) -> Tensor:
    """HTK's scale: 2595 log10(1 + f / 700)."""
    return 2595 * torch.log10(1 + hertz / 700)


def filters(bands: int, bins: int, sample_rate: int) -> Tensor:
    """(bins, bands): triangles equally spaced in mel from 0 Hz to half the rate."""
    top = sample_rate / 2
    edges = torch.linspace(0, float(mel(torch.tensor(top))), bands + 2)
    at = mel(torch.linspace(0, top, bins))[:, None]
    up = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return torch.minimum(up, down).clamp(min=0)


class LogMel(nn.Module):
    """samples (B, T) -> (B, bands, frames), -2 for silence and about 1 for what is loud."""

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, bands: int) -> None:
        super().__init__()
        self.hop = max(sample_rate // 100, 1)  # 10 ms
        self.size = 1 << (sample_rate // 32 - 1).bit_length()  # 32 ms or a little more
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)
        weights = filters(bands, self.size // 2 + 1, sample_rate)
        self.register_buffer("filters", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.stft(
            x.float(), self.size, self.hop, window=self.window, pad_mode="constant",
            return_complex=True,
        )  # (B, bins, frames)  # fmt: skip
        power = spectrum.real.square() + spectrum.imag.square()
        energy = power.transpose(1, 2) @ self.filters
        return torch.log10(energy + FLOOR).transpose(1, 2) / 3
