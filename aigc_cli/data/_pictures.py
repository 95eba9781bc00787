"""One split of a data set: checked pictures of a source, prepared once and kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from aigc_cli.data._cache import Bytes
from aigc_cli.data._sources import Source
from aigc_cli.errors import DataError, RunError
from aigc_cli.media.image import Picture


class Checked:
    """The usable pictures of a source, numbered without gaps; they must not change during a run."""

    def __init__(self, source: Source, good: Sequence[int]) -> None:
        self.source, self.good = source, list(good)
        self.fingerprints = [source.fingerprint(index) for index in self.good]

    def __len__(self) -> int:
        return len(self.good)

    def name(self, index: int) -> str:
        return self.source.name(self.good[index])

    def read(self, index: int) -> Picture:
        """The picture that was checked.

        Raises:
            RunError: its file was removed, replaced or damaged since the check.
        """
        number = self.good[index]
        try:
            picture = self.source.read(number)
        except DataError as error:
            raise RunError(f"picture changed during the run: {error.message}") from error
        if self.source.fingerprint(number) != self.fingerprints[index]:
            raise RunError(f"picture changed during the run: {self.name(index)}")
        return picture


def planes(picture: Picture, channels: int) -> Bytes:
    """Picture -> uint8 (channels, H, W), contiguous.

    16 bits are rounded to 8, which is what training works on; transparency lies over white.
    """
    picture = picture.as_bits(8).as_channels(channels)
    pixels = picture.pixels
    if picture.alpha is not None:
        alpha = picture.alpha[:, :, None].astype(np.uint16)
        pixels = ((pixels * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_range(pixels: Bytes) -> Tensor:
    """uint8 0..255 -> float32 [-1, 1]."""
    return torch.from_numpy(pixels).float().div_(127.5).sub_(1)
