"""What data tells a model before the first batch, and the fixed names and ranges of a batch.

A data kind exposes one Spec; a family says which Spec classes it accepts and is built from
`(config, spec)`, so no size is written twice in a recipe and a checkpoint can decode its own
samples.

Batches are dicts of tensors:

| kind               | key   | shape             | range                                  |
|--------------------|-------|-------------------|----------------------------------------|
| `images`           | image | (B, C, H, W)      | [-1, 1]                                |
|                    | label | (B,)              | class number; only with labelled data  |
| `super_resolution` | low   | (B, C, h, w)      | [-1, 1], bicubic of `high`             |
|                    | high  | (B, C, s h, s w)  | [-1, 1]                                |
| `image_pairs`      | source| (B, C, S, S)      | [-1, 1], what the model is given       |
|                    | target| (B, C', S, S)     | [-1, 1], what it should answer         |
| `unpaired_images`  | a     | (B, C, S, S)      | [-1, 1], pictures of the first domain  |
|                    | b     | (B, C, S, S)      | [-1, 1], unrelated ones of the second  |

Validation batches of `super_resolution` hold one whole picture each (B = 1).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from aigc_cli.errors import CheckpointError


@dataclass(frozen=True)
class Spec:
    """Base of all specs. Plain data only: it is written into every checkpoint."""

    kind: ClassVar[str] = ""

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class ImageSpec(Spec):
    """Pictures of one size; `labels` names the classes when there are any."""

    kind: ClassVar[str] = "images"

    channels: int
    image_size: int
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class SuperResolutionSpec(Spec):
    """Pairs of a picture and its bicubic reduction by `scale`."""

    kind: ClassVar[str] = "super_resolution"

    channels: int
    scale: int


@dataclass(frozen=True)
class PairSpec(Spec):
    """Pairs of a picture and the picture it should become, both of one size."""

    kind: ClassVar[str] = "image_pairs"

    source_channels: int
    target_channels: int
    image_size: int


@dataclass(frozen=True)
class UnpairedSpec(Spec):
    """Pictures of two domains, A and B, that do not belong together one by one."""

    kind: ClassVar[str] = "unpaired_images"

    channels: int
    image_size: int


@dataclass(frozen=True)
class PictureSpec(Spec):
    """Pictures of any size, for families that are not trained; no kind of data makes it."""

    kind: ClassVar[str] = "pictures"

    channels: int


SPECS: dict[str, type[Spec]] = {
    s.kind: s for s in (ImageSpec, SuperResolutionSpec, PairSpec, UnpairedSpec, PictureSpec)
}


def spec_from_dict(data: dict[str, Any]) -> Spec:
    """Inverse of `Spec.as_dict`, for checkpoints.

    Raises:
        CheckpointError: the kind is unknown or its fields do not fit, as in a newer checkpoint.
    """
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in SPECS:
        raise CheckpointError(
            f"unknown data kind {kind!r} in the checkpoint", hint="was it written by a newer aigc?"
        )
    if isinstance(fields.get("labels"), list):
        fields["labels"] = tuple(fields["labels"])
    try:
        return SPECS[kind](**fields)
    except TypeError as error:
        raise CheckpointError(f"the {kind} spec in the checkpoint does not fit: {error}") from error
