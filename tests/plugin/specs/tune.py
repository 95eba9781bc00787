"""Specs of tunes, a modality that only the tests know.

| kind       | key   | shape  | range                          |
|------------|-------|--------|--------------------------------|
| `tunes` | notes | (B, T) | pitches as MIDI numbers them   |
"""

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec

PITCHES = 128


@dataclass(frozen=True)
class TuneSpec(Spec):
    """Tunes of `length` notes."""

    kind: ClassVar[str] = "tunes"

    length: int
