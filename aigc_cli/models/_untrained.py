"""Base of families that need no training: their recipe takes the place of a run."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor
from torch.optim import Optimizer

from aigc_cli.models._base import Batch, Terms
from aigc_cli.models._image import ImageModule
from aigc_cli.specs.image import AnyImageSpec


class UntrainedModule(ImageModule):
    """Works on images of any size through the networks that it is given."""

    accepts = (AnyImageSpec,)
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {}
    averaged = ()
    takes = "image"
    training_free = True

    def loss(self, batch: Batch) -> Terms:
        raise NotImplementedError("nothing is trained")

    def configure_optimizers(self) -> Optimizer:
        raise NotImplementedError("nothing is trained")

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError("nothing is validated")
