"""Classifiers as chains of named layers, so that any layer of them can serve as features.

VGG: Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556, configurations D and E.
ResNet: He et al., 2016, https://arxiv.org/abs/1512.03385, blocks of torchvision.
EfficientNet-Lite0: nn/efficientnet_lite.py.

A network is described by plain data, its `arch`, from which `build` makes it again:

    name                       vgg16, vgg19, cnn, mlp, resnet18, resnet34, resnet50,
                               efficientnet_lite0
    channels                   of its input: 1 or 3
    image_size                 side of the images it was trained on; 0 where any will do
    num_classes                0 for no head
    widths, depths             cnn: channels and convolutions of each stage; mlp: units (no depths)
    norm, dropout              cnn: batch normalization; rate before the head (mlp: every layer)
    pooling, padding           vgg, cnn: between stages; of the first convolution
    folded                     efficientnet_lite0: without batch normalization, for features
    small_stem                 resnet: 3x3 stride 1 without pooling, for images below 64 pixels
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

from torch import Tensor, nn

from aigc_cli.nn.efficientnet_lite import HEAD, efficientnet_lite0, fold

Arch = dict[str, Any]
Layers = list[tuple[str, nn.Module]]
Pooling = Literal["max", "avg"]
Padding = Literal["zeros", "replicate", "reflect"]

VGG_DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
VGG_WIDTHS = (64, 128, 256, 512, 512)
RESNETS = ("resnet18", "resnet34", "resnet50")


def vgg(name: str, *, pooling: Pooling = "max", padding: Padding = "zeros") -> nn.Sequential:
    """Layers in the order of torchvision's `features` without the last pooling, named conv1_1,
    relu1_1, ... pool1, ... relu5_4.
    """
    layers = _stages(3, VGG_WIDTHS, VGG_DEPTHS[name], norm=False, pooling=pooling, padding=padding)
    return nn.Sequential(OrderedDict(layers))


def build(arch: Arch) -> nn.Sequential:
    """The network that `arch` describes, with torch's initial weights; its last two layers are
    `pooled` (B, D) and `logits` (B, K) where it has a head.
    """
    match arch["name"]:
        case "vgg16" | "vgg19":
            return vgg(arch["name"], pooling=arch["pooling"], padding=arch["padding"])
        case "cnn":
            layers = _cnn(arch)
        case "mlp":
            layers = _mlp(arch)
        case name if name in RESNETS:
            layers = _resnet(arch)
        case "efficientnet_lite0":
            layers = efficientnet_lite0(arch["channels"]) + _head(HEAD, arch)
            if arch.get("folded"):
                fold(nn.Sequential(*(layer for _, layer in layers)))
        case name:
            raise ValueError(f"unknown network {name!r}")
    return nn.Sequential(OrderedDict(layers))


def _stages(
    channels: int,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    norm: bool,
    pooling: Pooling,
    padding: Padding,
) -> Layers:
    """Stages of 3x3 convolutions; the resolution is halved between them."""
    layers: Layers = []
    for s, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
        if s > 1:
            layers.append((f"pool{s - 1}", _pool(pooling)))
        for i in range(1, depth + 1):
            mode: Padding = padding if not layers else "zeros"
            conv = nn.Conv2d(channels, width, 3, padding=1, bias=not norm, padding_mode=mode)
            layers.append((f"conv{s}_{i}", conv))
            if norm:
                layers.append((f"norm{s}_{i}", nn.BatchNorm2d(width)))
            layers.append((f"relu{s}_{i}", nn.ReLU()))
            channels = width
    return layers


def _pool(pooling: Pooling) -> nn.Module:
    # The sum of four divided by two: the mean would halve the scale that the next layer was trained
    # for with maxima (crowsonkb/style-transfer-pytorch).
    return nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2, divisor_override=2)


def _cnn(arch: Arch) -> Layers:
    widths = tuple(arch["widths"])
    layers = _stages(
        arch["channels"],
        widths,
        tuple(arch["depths"]),
        norm=arch["norm"],
        pooling=arch["pooling"],
        padding=arch["padding"],
    )
    return layers + _head(widths[-1], arch)


def _mlp(arch: Arch) -> Layers:
    layers: Layers = [("flat", nn.Flatten())]
    units = arch["channels"] * arch["image_size"] ** 2
    *hidden, last = arch["widths"]
    for i, width in enumerate(hidden, start=1):
        block = nn.Sequential(nn.Linear(units, width), nn.ReLU(), nn.Dropout(arch["dropout"]))
        layers.append((f"hidden{i}", block))
        units = width
    layers.append(("pooled", nn.Sequential(nn.Linear(units, last), nn.ReLU())))
    return [*layers, ("logits", _linear(last, arch))]


def _resnet(arch: Arch) -> Layers:
    """stem, layer1_1, ... layer4_3; every member is a whole residual block."""
    import torchvision.models  # takes longer to import than all of ours

    net = getattr(torchvision.models, arch["name"])(weights=None, num_classes=1)
    channels = arch["channels"]
    if arch["small_stem"]:
        conv = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        stem = nn.Sequential(conv, net.bn1, nn.ReLU())
    else:
        conv = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        stem = nn.Sequential(conv, net.bn1, nn.ReLU(), net.maxpool)
    layers: Layers = [("stem", stem)]
    for s, stage in enumerate((net.layer1, net.layer2, net.layer3, net.layer4), start=1):
        layers += [(f"layer{s}_{i}", block) for i, block in enumerate(stage, start=1)]
    for _, layer in layers:
        _initialize(layer)
    return layers + _head(net.fc.in_features, arch)


def _head(features: int, arch: Arch) -> Layers:
    if not arch["num_classes"]:
        return []
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return [("pooled", pooled), ("logits", _linear(features, arch))]


def _linear(features: int, arch: Arch) -> nn.Module:
    return nn.Sequential(nn.Dropout(arch["dropout"]), nn.Linear(features, arch["num_classes"]))


def _initialize(block: nn.Module) -> None:
    """Convolutions as He et al., 2015: N(0, 2 / fan_out)."""
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def pictures_for(arch: Arch, images: Tensor) -> Tensor:
    """Images (B, 1 | 3, H, W) in [-1, 1] with the channels that the network takes: gray is
    repeated, colors become luma (BT.601).
    """
    if images.shape[1] == arch["channels"]:
        return images
    if arch["channels"] == 3:
        return images.expand(-1, 3, -1, -1)
    luma = images.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)
    return (images * luma).sum(1, keepdim=True)
