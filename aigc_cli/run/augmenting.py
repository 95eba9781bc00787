"""What a user asks of `aigc augment`; without torch, so that mistakes are told at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aigc_cli.run.engines.cluster import Engine


@dataclass(frozen=True)
class Augmenting:
    """What a user asks of `aigc augment`."""

    data: str
    out: Path
    options: tuple[str, ...] = ()
    """Operations as KEY=VALUE."""
    data_options: tuple[str, ...] = ()
    """How the data is read, as KEY=VALUE of its kind."""
    val: str | None = None
    """Data to validate with, which is copied unchanged; None: every tenth item of `data`."""
    tests: tuple[str, ...] = ()
    """Further data of which nothing may come in."""
    on_leak: str = "stop"
    """What becomes of training items that are also in other data: stop, or drop."""
    on_error: str = "stop"
    """What becomes of items that cannot be read: stop, or skip."""
    keep: str | None = None
    long_tail: float | None = None
    factor: float | None = None
    balance: str | None = None
    classes: tuple[str, ...] = ()
    seed: int = 0
    workers: int | None = None
    engine: Engine | None = None
    """The cluster whose workers vary; None: processes of this machine."""
    sources: tuple[str, ...] = ()
    """Runs or checkpoints that make the new items; none: they are varied."""
    sampling: tuple[str, ...] = ()
    """Options of these, as KEY=VALUE of their family."""
    judge: str | None = None
    """A classifier that must see the class of what was made."""
    min_confidence: float = 0.5
    device: str = "auto"
    overwrite: bool = False
    go_on: bool = False

    @property
    def growth(self) -> float:
        """By which sizes are multiplied: 2, or 1 where classes are balanced."""
        if self.factor is not None:
            return self.factor
        return 1.0 if self.balance is not None else 2.0
