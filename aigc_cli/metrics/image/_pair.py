"""What metrics of two images share: 8 bits, equal sizes, gray as R = G = B, a border left out."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from aigc_cli.errors import DataError
from aigc_cli.metrics._metric import PairMetric
from aigc_cli.recipe.sections import Section

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[np.uint8]


class ImagePair(PairMetric):
    """A number for two images, uint8 (H, W, 1 or 3)."""

    smallest: ClassVar[int] = 1
    """Pixels of the shorter side that are needed."""

    @abstractmethod
    def formula(self, preds: Pixels, target: Pixels) -> float:
        """Both (H, W, 3), of the same size."""

    def compute(self, preds: Pixels, target: Pixels) -> float:
        """
        Raises:
            DataError: the sizes differ, or too little is left to compare.
        """
        border: int = getattr(self.options, "border", 0)
        ours, theirs = (f"{p.shape[1]} x {p.shape[0]}" for p in (preds, target))
        if ours != theirs:
            raise DataError(f"{ours} pixels, but its reference has {theirs}")
        least = self.smallest + 2 * border
        if min(preds.shape[:2]) < least:
            raise DataError(f"{ours} pixels, {self.name} needs {least} x {least} or more")
        H, W = preds.shape[:2]
        x, y = (
            np.broadcast_to(p, (H, W, 3))[border : H - border, border : W - border]
            for p in (preds, target)
        )
        return self.formula(x, y)


class Bordered(ImagePair):
    """Leaves out a border, as tables of super-resolution do."""

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

        border: int = Field(0, ge=0)
        """Pixels left out on every side; the scale where a model of super-resolution is judged."""

    def variants(self) -> dict[str, PairMetric]:
        """What the border hides: a model may spoil the edges of images."""
        if not self.options.border:
            return {}
        return {"border 0": type(self)(self.options.model_copy(update={"border": 0}))}


def as_batch(pixels: Pixels, *, lowest: float) -> Tensor:
    """uint8 (H, W, C) -> (1, C, H, W) from `lowest` to 1, for networks."""
    import torch

    unit = torch.from_numpy(pixels.astype(np.float32) / 255)
    return (unit * (1 - lowest) + lowest).permute(2, 0, 1)[None]
