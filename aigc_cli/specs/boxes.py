"""Specs of objects in images, and what their batches hold.

| kind    | key     | shape        | range                                                       |
|---------|---------|--------------|-------------------------------------------------------------|
| `boxes` | image   | (B, 3, H, W) | [-1, 1]; 0 beyond the image, which lies at the top left     |
|         | boxes   | (B, N, 4)    | left, top, right, bottom in pixels of `image`; 0 where none |
|         | classes | (B, N)       | class number, -1 where there is no further object           |

N is that of the image with the most objects, at least 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.specs import Spec


@dataclass(frozen=True)
class BoxesSpec(Spec):
    """Images of one size with the boxes of objects of the classes `labels`."""

    kind: ClassVar[str] = "boxes"

    height: int
    width: int
    labels: tuple[str, ...]
    mean_boxes: tuple[float, ...]
    """Of each class the mean box of training: left, top, right, bottom as parts of width and
    height, one class after the other.
    """

    @property
    def input_channels(self) -> int:
        """Of the images that a model is given."""
        return 3
