"""Specs of audio, and what its batches hold.

| kind         | key       | shape  | range                                                     |
|--------------|-----------|--------|-----------------------------------------------------------|
| `recordings` | audio     | (B, T) | samples in [-1, 1], zeros before a file and behind it;    |
|              |           |        | T = context + length                                      |
|              | counted   | (B, T) | 1 where a sample is to be learned, 0 in the context       |
|              | place     | (B, T) | how much of its recording lies before a sample, in [0, 1] |
|              | label     | (B,)   | number in `labels`; absent without them                   |
|              | unigram,  | (B,)   | nats that the counted levels of a validation item cost    |
|              | markov    |        | models of the training levels without context, or with    |
|              |           |        | two samples of it; absent while training                  |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class AudioSpec(Spec):
    """Recordings of one channel at `sample_rate` Hz: `length` samples behind `context` others."""

    kind: ClassVar[str] = "recordings"

    sample_rate: int
    length: int
    context: int
    levels: int
    """Steps between -1 and 1 after mu-law, by which likelihood is measured."""
    labels: tuple[str, ...] | None = None
