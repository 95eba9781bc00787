"""Base of the families that learn from pairs what to make of an image."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.media.image import from_tensor
from aigc_cli.metrics.image import psnr_rgb, ssim_rgb
from aigc_cli.models._base import Batch
from aigc_cli.models._image import ImageModule
from aigc_cli.nn.features import perceptual_distance
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec
from aigc_cli.specs.image import PairSpec

SMALLEST = 16  # pixels: SSIM needs 11, and U-Nets a few halvings
LUMA = (0.299, 0.587, 0.114)


class PairedModule(ImageModule):
    """Measures answers against the truth, and beside them two that need no model: the source
    itself, and the mean of all targets seen in training. A family writes `answers` too.
    """

    accepts: ClassVar[tuple[type[Spec], ...]] = (PairSpec,)
    takes = "image"
    metrics: ClassVar[dict[str, Literal["max", "min"]]] = {
        "l1": "min",
        "psnr_rgb": "max",
        "ssim_rgb": "max",
    }
    target_mean: Tensor
    targets_seen: Tensor

    def __init__(self, config: Section, spec: Spec, target_channels: int, image_size: int) -> None:
        super().__init__(config, spec)
        if image_size < SMALLEST:
            raise InputError(
                f"data.image_size={image_size}: this family needs {SMALLEST} pixels or more"
            )
        mean = torch.zeros(target_channels, image_size, image_size)
        self.register_buffer("target_mean", mean)
        self.register_buffer("targets_seen", torch.zeros((), dtype=torch.int64))

    @property
    def measures(self) -> dict[str, Literal["max", "min"]]:  # type: ignore[override]
        """`perceptual` needs the network that `config.features` names."""
        return {**self.metrics, "perceptual": "min"} if self.has_features else self.metrics

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """source (B, C, S, S) and target (B, C', S, S)."""
        return batch["source"], batch["target"]

    @abstractmethod
    def answers(self, batch: Batch, options: Section) -> Tensor:
        """What the model makes of the sources of a validation batch, (B, C', S, S)."""

    @property
    @abstractmethod
    def defaults(self) -> Section:
        """Options of the family as they are when nothing is asked for."""

    def after_step(self, batch: Batch) -> None:
        target = self.all_gather(self.pairs(batch)[1])
        self.targets_seen += len(target)
        share = len(target) / self.targets_seen
        self.target_mean.lerp_(target.mean(0), share.to(target.dtype))

    def evaluate_batch(self, batch: Batch) -> dict[str, Tensor]:
        """`l1`: mean absolute difference of values in [-1, 1], so in [0, 2]; `psnr_rgb` in dB and
        `ssim_rgb` of 8 bits.
        """
        return compared(self.answers(batch, self.defaults), self.pairs(batch)[1])

    def measure(self, batch: Batch, options: Section) -> dict[str, Tensor]:
        """As `evaluate_batch`, and `perceptual` (see `perceptual_distance`)."""
        return self._measured(self.answers(batch, options), self.pairs(batch)[1])

    def baselines(self, batch: Batch) -> dict[str, dict[str, Tensor]]:
        source, target = self.pairs(batch)
        mean = self.target_mean.expand_as(target)
        return {
            "identity": self._measured(as_channels(source, target.shape[1]), target),
            "mean": self._measured(mean, target),
        }

    def _measured(self, made: Tensor, target: Tensor) -> dict[str, Tensor]:
        found = compared(made, target)
        if self.has_features:
            found["perceptual"] = perceptual_distance(self.features, made, target)
        return found


def compared(made: Tensor, target: Tensor) -> dict[str, Tensor]:
    """(B, C, H, W) twice -> l1, psnr_rgb, ssim_rgb, each (B,)."""
    pairs = [
        (from_tensor(x), from_tensor(y)) for x, y in zip(made.cpu(), target.cpu(), strict=True)
    ]
    found = {
        metric.name: torch.tensor([metric.compute(x, y) for x, y in pairs])
        for metric in (psnr_rgb.Metric(), ssim_rgb.Metric())
    }
    return {"l1": (made - target).abs().flatten(1).mean(1), **found}


def as_channels(image: Tensor, channels: int) -> Tensor:
    """(B, 1 | 3, H, W) -> (B, channels, H, W): gray as R = G = B, color as its luma."""
    if image.shape[1] == channels:
        return image
    if channels == 3:
        return image.expand(-1, 3, -1, -1)
    luma = torch.tensor(LUMA, dtype=image.dtype, device=image.device).view(3, 1, 1)
    return (image * luma).sum(1, keepdim=True)
