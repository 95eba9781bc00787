"""Learned perceptual image patch similarity: Zhang et al., "The unreasonable effectiveness of deep
features as a perceptual metric", 2018, https://arxiv.org/abs/1801.03924, with their weights 0.1.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_cli.metrics._networks import (
    ALEXNET,
    VGG16,
    alexnet,
    fill,
    load_backbone,
    load_head,
    stages,
    vgg16,
)
from aigc_cli.metrics.image._pair import ImagePair, Pixels, as_batch

# layers whose outputs are compared: all ReLUs of AlexNet; the last ReLU of each block of VGG16
_ENDS = {"alex": (2, 5, 8, 10, 12), "vgg": (4, 9, 16, 23, 30)}
_WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


class LPIPS(nn.Module):
    """preds and target (B, 3, H, W) in [-1, 1] -> distance (B,), 0 for equal; lower is better.

    Each layer's features are scaled to unit length at every position; squared differences are
    weighted by channel, averaged over positions and added over layers. H, W >= 31.

    Weights from `folder` or the one that AIGC_WEIGHTS names: `alexnet-owt-7be5be79.pth` or
    `vgg16-397923af.pth` of torchvision (also found where torchvision downloads them), and the
    published heads as `lpips_alex.pth` or `lpips_vgg.pth` (else the copy inside torchmetrics).

    Raises:
        MissingError: weights are absent.
        CheckpointError: weights are damaged or belong to something else.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, net: Literal["alex", "vgg"] = "alex", folder: Path | None = None) -> None:
        super().__init__()
        features, file = (alexnet(), ALEXNET) if net == "alex" else (vgg16(), VGG16)
        load_backbone(features, file, folder)
        self.stages = stages(features, _ENDS[net])
        head = load_head(f"lpips_{net}.pth", f"lpips_models/{net}.pth", folder)
        self.heads = nn.ModuleList(nn.Conv2d(C, 1, 1, bias=False) for C in _WIDTHS[net])
        names = {f"lin{i}.model.1.weight": f"{i}.weight" for i in range(len(self.heads))}
        fill(self.heads, {names.get(k, k): v for k, v in head.items()}, f"lpips_{net}.pth")
        # mean and standard deviation of ImageNet, for pixels in [-1, 1]
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self.eval()

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        x, y = ((image - self.shift) / self.scale for image in (preds, target))
        distance = torch.zeros(len(preds), device=preds.device)
        for stage, head in zip(self.stages, self.heads, strict=True):
            x, y = stage(x), stage(y)  # (B, C, h, w)
            difference = F.normalize(x, dim=1, eps=1e-10) - F.normalize(y, dim=1, eps=1e-10)
            distance = distance + head(difference**2).mean(dim=(1, 2, 3))
        return distance


@lru_cache(maxsize=1)
def network() -> LPIPS:
    return LPIPS("alex")


class Metric(ImagePair):
    of = "pair"
    higher_is_better = False
    protocol = "LPIPS 0.1 with AlexNet, RGB, 8 bit, whole image"
    smallest = 31

    def prepare(self, device: str = "cpu") -> None:
        network()

    def formula(self, preds: Pixels, target: Pixels) -> float:
        with torch.inference_mode():
            return float(network()(*(as_batch(p, lowest=-1.0) for p in (preds, target))))
