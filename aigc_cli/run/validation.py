"""Validation with the averaged weights: means over all items, whatever the number of devices."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import nn

from aigc_cli.errors import Interrupted
from aigc_cli.models._base import Batch, GenerativeModule
from aigc_cli.models._contract import require_values
from aigc_cli.run.loaders import Loaders
from aigc_cli.run.progress import Progress
from aigc_cli.run.stop import Stop


class Validation:
    """Call it to validate; it remembers the best value of the monitored metric, or the last.

    Lightning's loop is not used: it cannot be left between two batches, nor entered before a step.
    """

    def __init__(self, progress: Progress, monitor: str, loaders: Loaders, stop: Stop) -> None:
        self.progress, self.monitor = progress, monitor
        self.loaders, self.stop = loaders, stop

    def __call__(self, trainer: pl.Trainer, model: GenerativeModule) -> dict[str, float]:
        """The means, written as a row.

        Raises:
            Interrupted: a signal came; nothing was written.
        """
        means = self._means(model)
        value, best = means[self.monitor], self.progress.best
        sign = 1 if model.metrics[self.monitor] == "max" else -1
        chosen = best is None or sign * value > sign * best["value"]
        keep_best = self.progress.settings.keep_best
        if (chosen or not keep_best) and value == value:  # not NaN
            self.progress.best = {"metric": self.monitor, "value": value, "step": model.step}
        if trainer.is_global_zero:
            values = {f"val/{name}": mean for name, mean in means.items()}
            row = {"event": "val", "step": model.step, **values, "best": self.progress.best}
            row |= {} if keep_best else {"kept": "last"}
            self.progress.folder.append(row)
            self.progress.emit(row)
        return means

    def _means(self, model: GenerativeModule) -> dict[str, float]:
        loader, shared = self.loaders.validation(), self.loaders.shared_batches()
        share_buffers(model)
        model.eval()
        model.start_means()
        try:
            # Not inference mode, whose tensors fsdp could not train with afterwards.
            with model.averaged_weights(), torch.no_grad():
                for number, batch in enumerate(loader):
                    self.progress.emit(
                        {"event": "phase", "phase": "validation", "done": number, "of": len(loader)}
                    )
                    # Every device has so many; to agree on more would wait for ever.
                    if number < shared and (asked := self.stop.agreed()) > 0:
                        raise Interrupted(asked, f"stopped by signal {asked}")
                    model.add_to_means(evaluated(model, batch))
        finally:
            model.train()
        return model.validation_means()


def evaluated(model: GenerativeModule, batch: Batch) -> dict[str, Any]:
    """What the model measures of a batch from a loader: in full precision whatever trains, so that
    `aigc evaluate` gives the same numbers.

    Raises:
        InputError: it is not what the family promises.
    """
    with torch.autocast(model.device.type, enabled=False):
        values = model.evaluate_batch({k: v.to(model.device) for k, v in batch.items()})
    require_values(model, values)
    return values


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers, as the statistics of batch normalization."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
