"""Deep image structure and texture similarity: Ding et al., "Image quality assessment: unifying
structure and texture similarity", 2020, https://arxiv.org/abs/2004.07728

Differs from the authors' script: the images are not first reduced to 256 pixels.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aigc_cli.errors import CheckpointError
from aigc_cli.metrics._networks import VGG16, load_backbone, load_head, stages, vgg16
from aigc_cli.metrics.image._pair import ImagePair, Pixels, as_batch

_WIDTHS = (3, 64, 128, 256, 512, 512)  # the image itself, then the five blocks of VGG16
_EPS = 1e-6


class _L2Pool(nn.Module):
    """(B, C, H, W) -> (B, C, ceil(H / 2), ceil(W / 2)): root of the blurred square."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])  # Hann window
        self.register_buffer("kernel", line[:, None] * line)

    def forward(self, x: Tensor) -> Tensor:
        C = x.shape[1]
        kernel = self.kernel.expand(C, 1, 3, 3)
        return (F.conv2d(x**2, kernel, stride=2, padding=1, groups=C) + 1e-12).sqrt()


class DISTS(nn.Module):
    """preds and target (B, 3, H, W) in [0, 1] -> distance (B,), 0 for equal; lower is better.

    1 - sum over channels of (alpha l + beta s): l compares the means of two feature maps (texture)
    and s is their correlation (structure), for the image and five layers of a VGG16 with L2
    pooling. At most 1, unless features are anticorrelated. H, W >= 16.

    Weights from `folder` or the one that AIGC_WEIGHTS names: `vgg16-397923af.pth` of torchvision
    (also found where torchvision downloads it) and the published alpha and beta as `dists.pt` (else
    the copy inside torchmetrics).

    Raises:
        MissingError: weights are absent.
        CheckpointError: weights are damaged or belong to something else.
    """

    alpha: Tensor
    beta: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        features = vgg16()
        load_backbone(features, VGG16, folder)
        pooled = (_L2Pool() if isinstance(m, nn.MaxPool2d) else m for m in features)
        self.stages = stages(nn.Sequential(*pooled), (4, 9, 16, 23, 30))
        head = load_head("dists.pt", "dists_models/weights.pt", folder)
        shapes = {name: tuple(weight.shape) for name, weight in head.items()}
        if shapes != dict.fromkeys(("alpha", "beta"), (1, sum(_WIDTHS), 1, 1)):
            raise CheckpointError(f"dists.pt: holds {shapes}, not alpha and beta of DISTS")
        total = head["alpha"].sum() + head["beta"].sum()
        self.register_buffer("alpha", head["alpha"].flatten() / total)
        self.register_buffer("beta", head["beta"].flatten() / total)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.eval()

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        x, y = preds, target
        terms = [_compare(x, y)]
        x, y = ((image - self.mean) / self.std for image in (x, y))
        for stage in self.stages:
            x, y = stage(x), stage(y)  # (B, C, h, w)
            terms.append(_compare(x, y))
        texture, structure = (torch.cat(parts, dim=1) for parts in zip(*terms, strict=True))
        return 1 - (self.alpha * texture + self.beta * structure).sum(dim=1)


def _compare(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Similarity of texture and of structure, each (B, C), 1 for equal."""
    mu_x, mu_y = x.mean(dim=(2, 3), keepdim=True), y.mean(dim=(2, 3), keepdim=True)
    variances = ((x - mu_x) ** 2).mean(dim=(2, 3)) + ((y - mu_y) ** 2).mean(dim=(2, 3))
    covariance = ((x - mu_x) * (y - mu_y)).mean(dim=(2, 3))
    mu_x, mu_y = mu_x.flatten(1), mu_y.flatten(1)
    texture = (2 * mu_x * mu_y + _EPS) / (mu_x**2 + mu_y**2 + _EPS)
    return texture, (2 * covariance + _EPS) / (variances + _EPS)


@lru_cache(maxsize=1)
def network() -> DISTS:
    return DISTS()


class Metric(ImagePair):
    of = "pair"
    higher_is_better = False
    protocol = "DISTS with VGG16, RGB, 8 bit, whole image, not resized"
    smallest = 16

    def prepare(self, device: str = "cpu") -> None:
        network()

    def formula(self, preds: Pixels, target: Pixels) -> float:
        with torch.inference_mode():
            return float(network()(*(as_batch(p, lowest=0.0) for p in (preds, target))))
