"""EDSR: super-resolution by a deep residual network without batch normalization.

Lim, Son, Kim, Nah, Lee, "Enhanced Deep Residual Networks for Single Image Super-Resolution",
CVPRW 2017, https://arxiv.org/abs/1707.02921. Baseline: 16 blocks of 64 features (1.37 / 1.55 / 1.52
million weights for x2 / x3 / x4); full: 32 blocks of 256 with residual scale 0.1.

Differs from the paper:
* the mean color is a buffer subtracted inside the network, not two fixed convolutions;
* in bf16 and fp16 the last convolution still runs in fp32, since 8 bits of mantissa cannot hold a
  result that is rounded to 256 levels;
* gray images (one channel) use the luma of the mean color.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field

from aigc_cli.models._base import Batch, Terms
from aigc_cli.models.image._super_resolution import SuperResolutionModule, SuperResolutionOptions
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.edsr import EDSR
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Section
from aigc_cli.specs import Spec
from aigc_cli.specs.image import SuperResolutionSpec

DIAL = Dial(
    goals=("super-resolve",),
    sizes=(
        {"model.num_blocks": 4, "model.num_features": 16},
        {"model.num_blocks": 8, "model.num_features": 32},
        {"model.num_blocks": 16, "model.num_features": 64, "model.lr": 5e-4},
    ),
    steps=1500,
    always={
        "data.patch_size": 36, "model.lr": 1e-3, "trainer.global_batch": 16,
        "trainer.channels_last": True,
    },
)  # fmt: skip


class Config(Section):
    """The network and its optimizer; the defaults are EDSR-baseline as published."""

    TINY: ClassVar[Mapping[str, Any]] = {"num_blocks": 2, "num_features": 4}

    num_blocks: int = Field(16, gt=0, le=128)
    """Residual blocks in the body: 16 for the baseline, 32 for the full network."""
    num_features: int = Field(64, gt=0, le=1024)
    """Channels of every block: 64 for the baseline, 256 for the full network."""
    residual_scale: float = Field(1.0, gt=0, le=1)
    """Factor on each block's branch; 0.1 keeps the full network from diverging (section 3.3)."""
    lr: float = Field(1e-4, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay of the first and second moment."""


class Model(SuperResolutionModule):
    """L1 in gray levels, Adam; x3 and x4 start from the x2 network by `init_from` (section 3.2)."""

    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        assert isinstance(spec, SuperResolutionSpec)
        self.net = EDSR(
            spec.channels,
            spec.scale,
            num_blocks=config.num_blocks,
            num_features=config.num_features,
            residual_scale=config.residual_scale,
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return fused_adam(self.net.parameters(), c.lr, c.betas)

    def loss(self, batch: Batch) -> Terms:
        l1 = 127.5 * (self.net(batch["low"]) - batch["high"]).abs().mean()
        return {"loss": l1}


class Options(SuperResolutionOptions):
    """What `aigc sample` may set."""
