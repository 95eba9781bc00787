"""The Inception v3 whose features FID, KID and the inception score are defined on.

Szegedy et al., "Rethinking the Inception architecture for computer vision", 2015,
https://arxiv.org/abs/1512.00567, as the graph that TensorFlow published on 2015-12-05, with what
that graph does differently from torchvision's:

* average pooling leaves the padding out of the mean
* the last block pools by maximum
* 1008 classes, and the logits of the inception score have no bias
* images are upscaled by TensorFlow 1's bilinear filter, whose corners are not where others' are

Names of parameters are those of the published file of weights.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from aigc_cli.metrics._networks import INCEPTION, fill, load_state

SIZE = 299
FILES = (
    INCEPTION,
    "weights-inception-2015-12-05-6726825d.pth",
)
"""Names under which pytorch-fid and torch-fidelity publish the same weights."""

Resize = Literal["tensorflow", "clean"]


class ConvNorm(nn.Module):
    """Convolution without bias, batch normalization, ReLU."""

    def __init__(
        self, channels: int, width: int, kernel: int | tuple[int, int], stride: int = 1
    ) -> None:
        super().__init__()
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if stride > 1 else (kernel[0] // 2, kernel[1] // 2)
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Unpadded(ConvNorm):
    """The same without padding, as in the stem."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, width, kernel, stride)
        self.conv.padding = (0, 0)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class A(nn.Module):
    """35 x 35."""

    def __init__(self, channels: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(channels, 64, 1)
        self.branch5x5_1 = ConvNorm(channels, 48, 1)
        self.branch5x5_2 = ConvNorm(48, 64, 5)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3)
        self.branch_pool = ConvNorm(channels, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class B(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvNorm(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvNorm(channels, 64, 1)
        self.branch3x3dbl_2 = ConvNorm(64, 96, 3)
        self.branch3x3dbl_3 = ConvNorm(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class C(nn.Module):
    """17 x 17, 7 x 7 convolutions as pairs of rows and columns."""

    def __init__(self, width: int) -> None:
        super().__init__()
        row, column = (1, 7), (7, 1)
        self.branch1x1 = ConvNorm(768, 192, 1)
        self.branch7x7_1 = ConvNorm(768, width, 1)
        self.branch7x7_2 = ConvNorm(width, width, row)
        self.branch7x7_3 = ConvNorm(width, 192, column)
        self.branch7x7dbl_1 = ConvNorm(768, width, 1)
        self.branch7x7dbl_2 = ConvNorm(width, width, column)
        self.branch7x7dbl_3 = ConvNorm(width, width, row)
        self.branch7x7dbl_4 = ConvNorm(width, width, column)
        self.branch7x7dbl_5 = ConvNorm(width, 192, row)
        self.branch_pool = ConvNorm(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_average(x))], 1)


class D(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = ConvNorm(768, 192, 1)
        self.branch3x3_2 = ConvNorm(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvNorm(768, 192, 1)
        self.branch7x7x3_2 = ConvNorm(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvNorm(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvNorm(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, stride=2)], 1)


class E(nn.Module):
    """8 x 8; `pool` is "average" in the first of the two blocks and "maximum" in the last."""

    def __init__(self, channels: int, pool: Literal["average", "maximum"]) -> None:
        super().__init__()
        self.pool = pool
        row, column = (1, 3), (3, 1)
        self.branch1x1 = ConvNorm(channels, 320, 1)
        self.branch3x3_1 = ConvNorm(channels, 384, 1)
        self.branch3x3_2a = ConvNorm(384, 384, row)
        self.branch3x3_2b = ConvNorm(384, 384, column)
        self.branch3x3dbl_1 = ConvNorm(channels, 448, 1)
        self.branch3x3dbl_2 = ConvNorm(448, 384, 3)
        self.branch3x3dbl_3a = ConvNorm(384, 384, row)
        self.branch3x3dbl_3b = ConvNorm(384, 384, column)
        self.branch_pool = ConvNorm(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = _average(x) if self.pool == "average" else F.max_pool2d(x, 3, stride=1, padding=1)
        parts = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return torch.cat(parts, 1)


class FIDInception(nn.Module):
    """Images (B, 1 or 3, H, W) in [-1, 1] -> pooled (B, 2048) and logits (B, 1008).

    `resize` is "tensorflow" as in the original FID, or "clean": bicubic and antialiased, as Parmar,
    Zhang and Zhu, 2022, https://arxiv.org/abs/2104.11222. Built with random weights.
    """

    layers: ClassVar[tuple[str, ...]] = ("pooled", "logits")
    channels: ClassVar[dict[str, int]] = {"pooled": 2048, "logits": 1008}

    def __init__(self, resize: Resize = "tensorflow") -> None:
        super().__init__()
        self.resize = resize
        self.stamp = "inception with random weights"
        self.Conv2d_1a_3x3 = Unpadded(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Unpadded(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvNorm(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNorm(64, 80, 1)
        self.Conv2d_4a_3x3 = Unpadded(80, 192, 3)
        self.Mixed_5b = A(192, pool=32)
        self.Mixed_5c = A(256, pool=64)
        self.Mixed_5d = A(288, pool=64)
        self.Mixed_6a = B(288)
        self.Mixed_6b = C(128)
        self.Mixed_6c = C(160)
        self.Mixed_6d = C(160)
        self.Mixed_6e = C(192)
        self.Mixed_7a = D()
        self.Mixed_7b = E(1280, "average")
        self.Mixed_7c = E(2048, "maximum")
        self.fc = nn.Linear(2048, 1008)
        self.eval()

    def forward(self, images: Tensor, layers: Sequence[str] = layers) -> dict[str, Tensor]:
        x = (images.float() + 1) * 127.5  # 0 to 255
        x = bilinear_tensorflow(x, SIZE) if self.resize == "tensorflow" else bicubic(x, SIZE)
        x = ((x - 128) / 128).expand(-1, 3, -1, -1)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # (B, 64, 147, 147)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, stride=2)))
        x = F.max_pool2d(x, 3, stride=2)  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        pooled = x.mean((2, 3))
        made = {"pooled": pooled}
        if "logits" in layers:
            made["logits"] = pooled @ self.fc.weight.T
        return {name: made[name] for name in layers}


def fid_inception(resize: Resize = "tensorflow", *, folder: Path | None = None) -> FIDInception:
    """The network with its published weights, frozen.

    They are read from `folder` or the one that AIGC_WEIGHTS names, or where torch.hub keeps its
    downloads, or fetched with AIGC_DOWNLOAD=1.

    Raises:
        MissingError: they are in none of these. CheckpointError: the file is another or damaged.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    named = folder or Path(os.environ.get("AIGC_WEIGHTS") or "weights")
    places = [place / file for place in (named, cache) for file in FILES]
    how = f"put the file of pytorch-fid or torch-fidelity there or into {cache}"
    state = load_state(FILES[0], folder, places, how=how)
    with torch.device("meta"):
        network = FIDInception(resize)
    fill(network.to_empty(device="cpu"), state, FILES[0])
    network.stamp = f"inception {FILES[0]}"
    for module in network.eval().modules():
        if isinstance(module, ConvNorm) and isinstance(module.bn, nn.BatchNorm2d):
            # one operation instead of two, equal but for rounding
            module.conv, module.bn = fuse_conv_bn_eval(module.conv, module.bn), nn.Identity()
    return network.to(memory_format=torch.channels_last)  # what processors and GPUs prefer


def bilinear_tensorflow(images: Tensor, size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, size, size) as `tf.image.resize_bilinear` of TensorFlow 1.

    Output pixel i is read at i H / size, without the half pixel that aligns centers; the last row
    and column repeat. Not antialiased: it is what FID is defined with, not what one should use.
    """
    H, W = images.shape[-2:]
    rows, columns = _weights(H, size), _weights(W, size)
    return rows.to(images) @ images @ columns.to(images).T


def bicubic(images: Tensor, size: int) -> Tensor:
    """Pillow's antialiased bicubic filter on numbers that are not rounded, clipped to 0 ... 255."""
    if tuple(images.shape[-2:]) == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 255)


@lru_cache(maxsize=16)
def _weights(length: int, size: int) -> Tensor:
    """(size, length): how much each input pixel adds to each output pixel."""
    place = torch.arange(size, dtype=torch.float64) * length / size
    left = place.floor().long()
    right, share = (left + 1).clamp(max=length - 1), place - left
    weights = torch.zeros(size, length, dtype=torch.float64)
    weights[torch.arange(size), left] = 1 - share
    return weights.index_put((torch.arange(size), right), share, accumulate=True).float()
