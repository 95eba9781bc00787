"""Specs of music, and what its batches hold.

| kind   | key    | shape  | range                                                    |
|--------|--------|--------|----------------------------------------------------------|
| `midi` | tokens | (B, T) | events of media/events.py                                |
|        | target | (B, T) | the event that follows each, IGNORE where nothing is to  |
|        |        |        | be learned                                               |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class MusicSpec(Spec):
    """Pieces as rows of `context` events, on a grid of `resolution` steps a quarter."""

    kind: ClassVar[str] = "midi"

    context: int
    resolution: int
    beats_per_bar: int
