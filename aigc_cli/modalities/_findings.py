"""What is told of data that a recipe or a source names: facts, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from aigc_cli.errors import AigcError, Problem


def tensor_facts(values: Tensor) -> dict[str, Any]:
    """What there is to say of a tensor of a batch."""
    return {
        "dtype": str(values.dtype).removeprefix("torch."),
        "shape": list(values.shape),
        "min": values.min().item(),
        "max": values.max().item(),
    }


@dataclass
class Findings:
    """What is wrong with data: `bad` makes it unusable, `warnings` are worth a look."""

    modality: str
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[Problem] = field(default_factory=list)
    bad: AigcError | None = None

    def warn(self, message: str, code: str, key: str, hint: str | None = None) -> None:
        """Add a warning about a part."""
        self.warnings.append(Problem(message, code=f"data.{code}", key=key, hint=hint))

    def as_dict(self) -> dict[str, Any]:
        return {"parts": self.parts, "warnings": [w.as_dict() for w in self.warnings]}


def warn_of_twins(findings: Findings, what: str) -> None:
    """Name files whose `digests` are those of another, and say how many were left out."""
    seen: dict[str, tuple[str, str]] = {}
    for key in sorted(findings.parts):  # data.train before data.val
        part = findings.parts[key]
        for name, digest in zip(part["names"], part["digests"], strict=True):
            if digest not in seen:
                seen[digest] = (key, name)
            elif seen[digest][0] == key:
                findings.warn(f"{name} has the {what} of {seen[digest][1]}", "duplicates", key)
            else:
                where, first = seen[digest]
                findings.warn(f"{name} has the {what} of {first} in {where}", "leak", key)
        if part["skipped"]:
            findings.warn(f"{len(part['skipped']):,} files are left out", "skipped", key)
