"""Recordings: louder or softer, moved, with noise, slower, higher; written as WAV.

Slower without lower is WSOLA (Verhelst and Roelands, 1993); higher is slower, and then played
faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.augment import _files
from aigc_cli.augment._augmentation import Draw, Operation
from aigc_cli.augment._files import Item, unit
from aigc_cli.data._named_files import files_in
from aigc_cli.media.audio import ENDINGS, MAX_BYTES, Sound, power, read_audio, sound_bytes
from aigc_cli.recipe.sections import Section

WINDOW, HOP, TOLERANCE = 512, 128, 160  # samples of what is laid at other distances
GRID = (16, 24)  # times and frequencies by which recordings are compared


class Options(Section):
    """How much recordings are varied; 0 leaves an operation out."""

    gain: float = Field(6.0, ge=0, le=40)
    """Decibels by which a recording is made louder or softer at most; it is never clipped."""
    shift: float = Field(0.1, ge=0, le=0.5)
    """Part of its length by which it begins later or earlier at most; what is missing is silent."""
    noise: float = Field(20.0, ge=0, le=100)
    """Decibels by which white noise is softer than the recording at least; 100 is never heard."""
    stretch: float = Field(0.1, ge=0, le=0.5)
    """Part by which it becomes slower or faster at most, at the same pitch."""
    pitch: float = Field(1.0, ge=0, le=12)
    """Semitones by which it becomes higher or lower at most, at the same speed."""


class Augmentation(_files.Augmentation):
    """Recordings."""

    Options = Options
    yardstick = "yardstick_audio"
    ending = ".wav"

    def files(self, source: str, bases: Sequence[Path]) -> list[tuple[str, bytes]]:
        return list(files_in(source, ENDINGS, MAX_BYTES, "audio file", bases))

    def decode(self, data: bytes, name: str) -> Sound:
        return read_audio(data, name)

    def encode(self, value: Sound) -> bytes:
        return sound_bytes(value)

    def essence(self, value: Sound) -> bytes:
        return value.sample_rate.to_bytes(4, "little") + value.samples.tobytes()

    def changed(self, value: Sound, draw: Draw, done: list[Operation]) -> Sound:
        o: Any = self.options
        x, rate = torch.from_numpy(value.samples).float(), value.sample_rate
        if o.stretch:
            factor = float(np.exp(draw.uniform(-1, 1) * np.log1p(o.stretch)))
            x = stretched(x, factor)
            done.append({"name": "stretch", "factor": round(factor, 4)})
        if o.pitch:
            semitones = draw.uniform(-o.pitch, o.pitch)
            x = higher(x, 2 ** (semitones / 12))
            done.append({"name": "pitch", "semitones": round(semitones, 3)})
        if o.shift:
            by = round(draw.uniform(-o.shift, o.shift) * len(x))
            x = moved(x, by)
            done.append({"name": "shift", "seconds": round(by / rate, 4)})
        if o.noise < 100:
            ratio = draw.uniform(o.noise, 100)
            level = x.square().mean().sqrt() * 10 ** (-ratio / 20)
            x = x + level * torch.randn(x.shape, generator=draw.generator)
            done.append({"name": "noise", "below_db": round(ratio, 2)})
        if o.gain:
            decibels = draw.uniform(-o.gain, o.gain)
            factor = 10 ** (decibels / 20)
            factor = min(factor, 1 / max(float(x.abs().max()), 1e-9))
            x = x * factor
            done.append({"name": "gain", "factor": round(factor, 4)})
        return Sound(x.clamp(-1, 1).numpy(), rate)

    def thing_of_made(self, made: Sound) -> Item:
        data = sound_bytes(made)
        return Item(data, self.ending, read_audio(data, "made"))

    def features(self, thing: Item) -> Tensor:
        """Its loudness in time and frequency on a grid, of length 1."""
        levels = np.log(power(thing.value.samples, HOP)[:, 1:] + 1e-8).T  # (256, frames)
        grid = torch.from_numpy(levels)[None, None]
        return unit(F.adaptive_avg_pool2d(grid, GRID).numpy() - np.log(1e-8))

    def unfit(self, thing: Item) -> str | None:
        return None if float(np.abs(thing.value.samples).max(initial=0)) > 1e-4 else "silent"


def moved(x: Tensor, by: int) -> Tensor:
    """Samples (T,) that begin `by` later; as long, with silence where nothing is known."""
    y = torch.zeros_like(x)
    if by >= 0:
        y[by:] = x[: len(x) - by]
    else:
        y[:by] = x[-by:]
    return y


def stretched(x: Tensor, factor: float) -> Tensor:
    """Samples (T,) -> about (factor T,) at the same pitch.

    Windows of the recording, laid at other distances: each is taken from where, within TOLERANCE
    of its place, it goes on most like the one before it.
    """
    length = max(1, round(len(x) * factor))
    if len(x) < 2 * WINDOW:
        return F.pad(x, (0, max(0, length - len(x))))[:length]
    window = torch.hann_window(WINDOW)
    padded = F.pad(x, (WINDOW, 2 * WINDOW + TOLERANCE))
    out, weight = torch.zeros(length + 3 * WINDOW), torch.full((length + 3 * WINDOW,), 1e-6)
    place = WINDOW // 2
    for start in range(0, length + WINDOW, HOP):
        middle = min(WINDOW // 2 + round(start / factor), len(padded) - WINDOW - TOLERANCE)
        if start:
            goes_on = padded[place + HOP : place + HOP + WINDOW]
            low = max(0, middle - TOLERANCE)
            near = padded[low : middle + TOLERANCE + WINDOW]
            if len(goes_on) < WINDOW:
                break
            like = F.conv1d(near[None, None], goes_on[None, None])[0, 0]
            size = F.conv1d(near.square()[None, None], torch.ones(1, 1, WINDOW))[0, 0]
            place = low + int((like / (size.clamp(min=0) + 1e-6).sqrt()).argmax())
        else:
            place = middle
        out[start : start + WINDOW] += window * padded[place : place + WINDOW]
        weight[start : start + WINDOW] += window
    return (out / weight)[WINDOW // 2 :][:length]


def higher(x: Tensor, ratio: float) -> Tensor:
    """Samples (T,) -> (T,), higher by a ratio of frequencies: slower, then read faster."""
    slow = stretched(x, ratio)
    places = torch.arange(len(x)) * ratio
    low = places.long().clamp(max=max(0, len(slow) - 2))
    part = (places - low).clamp(0, 1)
    following = (low + 1).clamp(max=len(slow) - 1)
    return torch.lerp(slow[low], slow[following], part.float())
