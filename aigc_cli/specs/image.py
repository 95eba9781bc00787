"""Specs of images, and what their batches hold.

| kind               | key   | shape             | range                                  |
|--------------------|-------|-------------------|----------------------------------------|
| `images`           | image | (B, C, H, W)      | [-1, 1]                                |
|                    | label | (B,)              | class number; only with labeled data   |
| `super_resolution` | low   | (B, C, h, w)      | [-1, 1], bicubic of `high`             |
|                    | high  | (B, C, s h, s w)  | [-1, 1]                                |
| `image_pairs`      | source| (B, C, S, S)      | [-1, 1], what the model is given       |
|                    | target| (B, C', S, S)     | [-1, 1], what it should answer         |
| `unpaired_images`  | a     | (B, C, S, S)      | [-1, 1], images of the first domain    |
|                    | b     | (B, C, S, S)      | [-1, 1], unrelated ones of the second  |

Validation batches of `super_resolution` hold one whole image each (B = 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class ImageSpec(Spec):
    """Images of one size; `labels` names the classes when there are any."""

    kind: ClassVar[str] = "images"

    channels: int
    image_size: int
    labels: tuple[str, ...] | None = None

    @property
    def input_channels(self) -> int:
        """Of the images that a model is given."""
        return self.channels


@dataclass(frozen=True)
class SuperResolutionSpec(Spec):
    """Pairs of an image and its bicubic reduction by `scale`."""

    kind: ClassVar[str] = "super_resolution"

    channels: int
    scale: int

    @property
    def input_channels(self) -> int:
        """Of the images that a model is given."""
        return self.channels


@dataclass(frozen=True)
class PairSpec(Spec):
    """Pairs of an image and the image it should become, both of one size."""

    kind: ClassVar[str] = "image_pairs"

    source_channels: int
    target_channels: int
    image_size: int

    @property
    def input_channels(self) -> int:
        """Of the images that a model is given."""
        return self.source_channels


@dataclass(frozen=True)
class UnpairedSpec(Spec):
    """Images of two domains, A and B, that do not belong together one by one."""

    kind: ClassVar[str] = "unpaired_images"

    channels: int
    image_size: int

    @property
    def input_channels(self) -> int:
        """Of the images that a model is given."""
        return self.channels


@dataclass(frozen=True)
class AnyImageSpec(Spec):
    """Images of any size, for families that are not trained; no kind of data makes it."""

    kind: ClassVar[str] = "pictures"

    channels: int

    @property
    def input_channels(self) -> int:
        """Of the images that a model is given."""
        return self.channels
