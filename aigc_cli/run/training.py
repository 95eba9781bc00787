"""The one place where Lightning drives a family: devices, precision, strategies and loops.

Families are plain modules (models/_base.py), so that sampling and evaluating need no Lightning,
and what Lightning's manual optimization does not do is in run/iteration.py: it counts every
optimizer step (two per batch in a GAN) where `model.step` counts iterations, refuses accumulation
and clipping, and steps no schedule.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.precision import MixedPrecision
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor

from aigc_cli.models._base import Batch, GenerativeModule
from aigc_cli.run.devices import autocast
from aigc_cli.run.iteration import Iteration


class Scaled(MixedPrecision):
    """Scales losses in fp16. Lightning's puts one autocast around the whole step, and casts weights
    anew for every layer, since they change within: see devices.autocast.
    """

    def forward_context(self) -> AbstractContextManager[None]:
        return nullcontext()


class Training(pl.LightningModule):
    """A family in Lightning's hands. Its weights are the family's; checkpoints are written of
    `model` alone.
    """

    iteration: Iteration

    def __init__(self, model: GenerativeModule) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model

    @property
    def step(self) -> int:
        """Iterations done."""
        return self.model.step

    def configure_model(self) -> None:
        """Lightning calls this early, where the strategy is fsdp with a mesh of devices."""
        if self.device_mesh is not None:
            self.model.shard(self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        return self.model.configure_optimizers()

    def begin(self) -> None:
        """Called once, when the model is prepared and the optimizers have their state."""
        strategy: Any = self.trainer.strategy
        assert self.model.run is not None
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        alone = isinstance(strategy, SingleDeviceStrategy) and scaler is None
        self.iteration = Iteration(
            self.model,
            self.trainer.optimizers,
            backward=Tensor.backward if alone else self.manual_backward,
            no_sync=getattr(strategy, "block_backward_sync", nullcontext),
            autocast=autocast(self.model.run.trainer),
            scaler=scaler,
        )

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.iteration(batch)
