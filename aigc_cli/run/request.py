"""What a user asks of `aigc sample`; without torch, so that mistakes are told at once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What a user asks of `aigc sample`."""

    out: Path
    input: Path | None = None
    prompts: tuple[str, ...] = ()
    output: Path | None = None
    references: tuple[Path, ...] = ()
    count: int | None = None
    interpolate: int = 0
    seed: int = 0
    batch_size: int = 16
    reading: tuple[str, ...] = ()
    """How inputs are read, as KEY=VALUE of the modality's `Reading`."""
    writing: tuple[str, ...] = ()
    """How files are written, as KEY=VALUE of the modality's `Writing`."""
    overwrite: bool = False
    go_on: bool = False
    """Take over what an interrupted call with the same request has written."""


def default_output(source: str) -> Path:
    """samples/<name of the run>-<time>: never an existing folder."""
    path = Path(source).resolve()  # runs/NAME/latest -> runs/NAME/TIME
    run = path.parent.parent if path.suffix == ".ckpt" else path
    name = run.parent.name if run.name[:4].isdigit() else run.name
    return Path("samples") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
