"""Specs of melodies, a modality that only the tests know.

| kind       | key   | shape  | range                          |
|------------|-------|--------|--------------------------------|
| `melodies` | notes | (B, T) | pitches as MIDI numbers them   |
"""

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec

PITCHES = 128


@dataclass(frozen=True)
class MelodySpec(Spec):
    """Melodies of `length` notes."""

    kind: ClassVar[str] = "melodies"

    length: int
