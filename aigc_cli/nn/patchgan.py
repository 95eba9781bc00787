"""PatchGAN: a discriminator that judges overlapping patches instead of the whole image.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017, section
6.1.2, https://arxiv.org/abs/1611.07004.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from aigc_cli.nn.init import init_normal
from aigc_cli.nn.norm import InstanceNorm

Norm = Literal["instance", "batch", "none"]


class PatchGAN(nn.Module):
    """Image (B, C, H, W) -> one logit for each patch, (B, 1, h, w); weights N(0, 0.02).

    `layers` strided convolutions make the receptive field 16 (1), 34 (2), 70 (3) or 142 (4) pixels
    wide. The first convolution has no normalization, as in the paper. With `spectral` every
    convolution is divided by its spectral norm (Miyato et al. 2018).
    """

    def __init__(
        self,
        channels: int,
        features: int = 64,
        layers: int = 3,
        norm: Norm = "instance",
        *,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        widths = [min(features * 2**n, 8 * features) for n in range(layers + 1)]
        blocks: list[nn.Module] = []
        before = channels
        for n, width in enumerate(widths):
            stride = 2 if n < layers else 1
            has_norm = n > 0 and norm != "none"
            bias = not (has_norm and norm == "batch")
            blocks.append(nn.Conv2d(before, width, 4, stride, 1, bias=bias))
            if has_norm:
                blocks.append(nn.BatchNorm2d(width) if norm == "batch" else InstanceNorm())
            blocks.append(nn.LeakyReLU(0.2, inplace=True))
            before = width
        blocks.append(nn.Conv2d(before, 1, 4, 1, 1))
        self.blocks = nn.Sequential(*blocks)
        init_normal(self)
        if spectral:
            for block in self.blocks:
                if isinstance(block, nn.Conv2d):
                    spectral_norm(block)

    @staticmethod
    def smallest(layers: int) -> int:
        """Side of the smallest image that gives at least one logit."""
        return 3 * 2**layers

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.blocks(images)
        return logits
