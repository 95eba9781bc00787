"""What a family says of itself to `aigc train DATA --budget 20m`: what it is for, and its sizes.

A family's file may define `DIAL`; what has none is trained from recipes alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Dial:
    """What is trained where only data and time are given. Keys are dotted ones of a recipe."""

    goals: Sequence[str]
    """What it is for, as `--goal` says it; the first is the usual word."""
    sizes: Sequence[Mapping[str, Any]]
    """From small to large. Numbers of `data` are the most: smaller things stay as they are."""
    steps: int
    """So many are worth a size: the largest that has them in the time is taken."""
    always: Mapping[str, Any] = field(default_factory=dict)
    """Values of every size."""
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Values for data of which a fact is known, such as classes."""
    needs: str | None = None
    """The fact without which it cannot learn."""
    kinds: Sequence[str] | None = None
    """Kinds of data that it is for; None: all that the family takes."""
    rank: int = 0
    """Among families that fit equally, the least is proposed."""
    averaged: bool = True
    """Whether the last steps are averaged, `trainer.ema`."""
    validations: int | None = None
    """How often at most."""
    starts: Mapping[str, Dial] = field(default_factory=dict)
    """Dials that are taken instead where that model of `aigc model ls` is here: training begins
    with its weights.
    """
