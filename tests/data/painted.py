"""Pixels for tests that need something like a photograph."""

from __future__ import annotations

import numpy as np


def pixels(height: int, width: int, channels: int = 3, *, seed: int = 0) -> np.ndarray:
    """Smooth colors with some noise, uint8 (H, W, channels)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin((y * a + x * b) / 9) for a, b in rng.uniform(-1, 1, (channels, 2))]
    values = 128 + 90 * np.stack(waves, -1) + rng.normal(0, 6, (height, width, channels))
    return values.clip(0, 255).astype(np.uint8)
