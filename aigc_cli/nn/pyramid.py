"""Feature maps of several resolutions: a backbone of named layers, and a pyramid over it.

The pyramid is that of Lin et al., 2017, https://arxiv.org/abs/1612.03144: maps are brought to one
width, and what is coarse is added to what is fine.
"""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.nn.efficientnet_lite import HEAD, STAGES, efficientnet_lite0

STRIDES = (8, 16, 32)


class Residual(nn.Module):
    """Two convolutions and the input, with batch normalization (He et al., 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(unit(width, width), unit(width, width, act=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.layers(x))


def unit(before: int, after: int, *, stride: int = 1, act: bool = True) -> nn.Sequential:
    """A 3x3 convolution, batch normalization and ReLU."""
    conv = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(after), *([nn.ReLU()] if act else []))


class Backbone(nn.Sequential):
    """Named layers; `maps` gives the features (B, C, H / s, W / s) at each of STRIDES."""

    taps: tuple[str, ...]
    channels: tuple[int, ...]

    def maps(self, x: Tensor) -> list[Tensor]:
        found = []
        for name, layer in self.named_children():
            x = layer(x)
            if name in self.taps:
                found.append(x)
        return found


def backbone(name: str, widths: tuple[int, ...]) -> Backbone:
    """`cnn` with five or more stages of these widths, or `efficientnet_lite0` without its head.

    Raises:
        ValueError: too few stages.
    """
    if name == "efficientnet_lite0":
        layers = [pair for pair in efficientnet_lite0(3) if pair[0] != "head"]
        made = Backbone(OrderedDict(layers))
        made.taps = ("layer3_2", "layer5_3", "layer7_1")
        made.channels = tuple(STAGES[stage - 1][4] for stage in (3, 5, 7))
        assert max(made.channels) < HEAD
        return made
    if len(widths) < 5:
        raise ValueError("widths needs five stages or more, for strides 2 to 32")
    stages: list[tuple[str, nn.Module]] = []
    before = 3
    for s, width in enumerate(widths[:5], 1):
        blocks = [] if s == 1 else [Residual(width)]
        stages.append((f"stage{s}", nn.Sequential(unit(before, width, stride=2), *blocks)))
        before = width
    made = Backbone(OrderedDict(stages))
    made.taps, made.channels = ("stage3", "stage4", "stage5"), tuple(widths[2:5])
    return made


class Pyramid(nn.Module):
    """Maps (B, C_i, H_i, W_i), fine to coarse -> maps (B, width, H_i, W_i)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.GroupNorm(groups_of(width), width),
                nn.ReLU(),
            )
            for _ in channels
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        found: list[Tensor] = []
        for x, narrow in zip(reversed(maps), reversed(self.narrow), strict=True):
            y = narrow(x)
            if found:
                y = y + F.interpolate(found[0], y.shape[-2:], mode="nearest")
            found.insert(0, y)
        return [smooth(y) for smooth, y in zip(self.smooth, found, strict=True)]


def groups_of(width: int) -> int:
    """Of group normalization: eight channels or more each, where the width can be divided so."""
    return next(groups for groups in (8, 4, 2, 1) if width % groups == 0)
