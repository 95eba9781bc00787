"""What data tells a model before the first batch: one file for each modality.

A data kind exposes one Spec; a family says which Spec classes it accepts and is built from
`(config, spec)`, so no size is written twice in a recipe and a checkpoint can decode its own
samples. A subclass registers itself by its `kind`; the names, shapes and ranges of its batches
stand in a table on top of its file. Batches are dicts of tensors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from aigc_cli.errors import CheckpointError
from aigc_cli.registry import load_specs, spec_files

SPECS: dict[str, type[Spec]] = {}
"""Every Spec class that was imported, by kind."""


@dataclass(frozen=True)
class Spec:
    """Base of all specs. Plain data only: it is written into every checkpoint."""

    kind: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if cls.kind:
            SPECS[cls.kind] = cls

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


def spec_from_dict(data: dict[str, Any]) -> Spec:
    """Inverse of `Spec.as_dict`, for checkpoints. Those of `specs/` in AIGC_PATH are known too.

    Raises:
        CheckpointError: the kind is unknown or its fields do not fit, as in a newer checkpoint.
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in SPECS:
        for name in spec_files():
            load_specs(name)
    if kind not in SPECS:
        raise CheckpointError(
            f"unknown data kind {kind!r} in the checkpoint",
            hint="was it written by a newer aigc, or is its AIGC_PATH missing?",
        )
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return SPECS[kind](**fields)
    except TypeError as error:
        raise CheckpointError(f"the {kind} spec in the checkpoint does not fit: {error}") from error
