"""Batches of a run: training from the first step not yet done to the last, and validation."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from aigc_cli.data._data import DataSource
from aigc_cli.data._stream import ShardSampler, StepSampler
from aigc_cli.models._base import GenerativeModule
from aigc_cli.recipe.load import Recipe
from aigc_cli.run import devices


class Loaders(pl.LightningDataModule):
    """Every item exactly once an epoch over all devices; validation items spread without padding.

    share: items of one batch on this device.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: DataSource,
        model: GenerativeModule,
        *,
        share: int,
        world: devices.World,
        max_steps: int,
    ) -> None:
        super().__init__()
        self.recipe, self.data, self.model = recipe, data, model
        self.share, self.world, self.max_steps = share, world, max_steps

    def train_dataloader(self) -> DataLoader[Any]:
        settings = self.recipe.trainer
        self.data.start_background()
        return DataLoader(
            self.data.train,
            batch_sampler=StepSampler(
                len(self.data.train),
                global_batch=self.share * self.world.size,
                rank=self.world.rank,
                world=self.world.size,
                seed=self.recipe.seed,
                start=self.model.step,
                stop=self.max_steps,
                batches=self.model.batches_per_step,
                lengths=getattr(self.data.train, "lengths", None),
            ),
            collate_fn=getattr(self.data.train, "collate", None),
            num_workers=settings.workers,
            persistent_workers=settings.workers > 0,
            pin_memory=devices.choose_device(settings.device) == "cuda",
        )

    def validation(self) -> DataLoader[Any]:
        """This device's validation items. Not Lightning's name: run/validation.py reads them."""
        return DataLoader(
            self.data.val,
            batch_size=self.data.val_batch_size or self.share,
            sampler=ShardSampler(len(self.data.val), self.world.rank, self.world.size),
            collate_fn=getattr(self.data.val, "collate", None),
        )

    def shared_batches(self) -> int:
        """Validation batches that every device has; some have one more."""
        size = self.data.val_batch_size or self.share
        return -(-(len(self.data.val) // self.world.size) // size)
