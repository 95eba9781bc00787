"""A frozen network whose layers compare images: for perceptual and style losses, dreams, FID.

It is a chain of named layers (nn/classifier.py): EfficientNet-Lite0 or VGG with ImageNet weights,
VGG with random ones, or a classifier trained by this toolkit. Gradients reach the images, never
the weights.

Random weights serve textures: Ustyuzhaninov et al., 2017, https://arxiv.org/abs/1606.00021.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import groupby
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aigc_cli.errors import CheckpointError, InputError, did_you_mean
from aigc_cli.nn.classifier import VGG_DEPTHS, Arch, Padding, Pooling, build, pictures_for

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeatureNetwork(nn.Module):
    """Images (B, 1 | 3, H, W) in [-1, 1] -> activations of the layers asked for.

    Always in evaluation mode and without trainable weights. `arch` describes the chain, see
    nn/classifier.py; `stamp` says what it is, for records.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, chain: nn.Sequential, arch: Arch, stamp: str) -> None:
        super().__init__()
        self.chain, self.arch, self.stamp = chain, arch, stamp
        self.layers: tuple[str, ...] = tuple(name for name, _ in chain.named_children())
        self.in_channels: int = arch["channels"]
        self.image_size: int | None = arch["image_size"] or None
        vgg = arch["name"] in VGG_DEPTHS  # trained on (x - mean) / std with x in [0, 1]
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if vgg else ((0.5,), (0.5,))
        self.register_buffer("mean", 2 * torch.tensor(mean).view(1, -1, 1, 1) - 1, False)
        self.register_buffer("std", 2 * torch.tensor(std).view(1, -1, 1, 1), False)
        self.requires_grad_(False).eval()
        self.channels: dict[str, int] = {}
        self.strides: dict[str, int] = {}
        self._measure()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode: dropout and batch statistics have no place here."""
        return super().train(False)

    def forward(self, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """Activations by layer; computes no further than the deepest.

        Raises:
            InputError: there is no such layer, or the images are too small to reach it.
        """
        last = self.depth(layers)
        x = (pictures_for(self.arch, images) - self.mean) / self.std
        if self.arch["name"] == "mlp" and x.shape[-2:] != (self.image_size,) * 2:
            x = F.interpolate(x, size=self.image_size, mode="bilinear", antialias=True)
        if self.arch["name"] == "efficientnet_lite0":
            # TensorFlow's padding depends on the parity of a side. Filled up to whole places by
            # repeating the border, a layer's places lie where they lie in any part of the image.
            H, W = x.shape[-2:]
            stride = max(self.strides.values())
            x = F.pad(x, (0, -W % stride, 0, -H % stride), mode="replicate")
        # Depthwise convolutions in bf16 take 1.6 times as long as in fp32 on a CPU (measured).
        slow = x.device.type == "cpu" and self.arch["name"] == "efficientnet_lite0"
        with torch.autocast("cpu", enabled=False) if slow else nullcontext():
            x = x.float() if slow else x
            found: dict[str, Tensor] = {}
            for number in range(last + 1):
                name, layer = self.layers[number], self.chain[number]
                if isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) and min(x.shape[-2:]) < 2:
                    self._too_small(images, self.layers[last])
                x = layer(x)
                if name in layers:
                    found[name] = x
            return found

    def depth(self, layers: Sequence[str]) -> int:
        """Position of the deepest of the layers.

        Raises:
            InputError: there is no such layer, or none was named.
        """
        for name in layers:
            if name not in self.layers:
                raise InputError(
                    f"{self.stamp} has no layer '{name}'", hint=did_you_mean(name, self.layers)
                )
        if not layers:
            raise InputError("no layer of the feature network was named")
        return max(self.layers.index(name) for name in layers)

    def least_side(self, layers: Sequence[str]) -> int:
        """Pixels of a side of one place of the deepest layer, which an image needs on each side.

        Raises:
            InputError: there is no such layer.
        """
        return self.strides[self.layers[self.depth(layers)]]

    def upto(self, layers: Sequence[str]) -> FeatureNetwork:
        """The same network, sharing its weights, without what lies behind the deepest layer."""
        return FeatureNetwork(self.chain[: self.depth(layers) + 1], self.arch, self.stamp)

    def modified(
        self, *, pooling: Pooling | None = None, padding: Padding | None = None
    ) -> FeatureNetwork:
        """A network of the same weights with other pooling between stages ("max", "avg") or padding
        of the first convolution ("zeros", "replicate", "reflect").

        Raises:
            InputError: the network has no such parts, as an MLP or a ResNet.
        """
        changes = {"pooling": pooling, "padding": padding}
        arch = self.arch | {k: v for k, v in changes.items() if v is not None}
        if arch == self.arch:
            return self
        if "conv1_1" not in self.layers:
            raise InputError(
                f"{self.stamp}: pooling and padding can be chosen for vgg and cnn networks only"
            )
        return self.from_state({**self.state(), "arch": arch})

    def state(self) -> dict[str, Any]:
        """Plain data and tensors from which `from_state` makes the network again."""
        weights = {name: tensor.cpu() for name, tensor in self.chain.state_dict().items()}
        return {
            "arch": dict(self.arch),
            "last": self.layers[-1],
            "stamp": self.stamp,
            "weights": weights,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> FeatureNetwork:
        """Inverse of `state`.

        Raises:
            CheckpointError: the state is that of no network this version knows.
        """
        try:
            with torch.device("meta"):
                chain = build(state["arch"])
            names = [name for name, _ in chain.named_children()]
            chain = chain[: names.index(state["last"]) + 1]
            chain.load_state_dict(state["weights"], assign=True)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                "the feature network in the checkpoint does not fit",
                hint="was it written by a newer aigc?",
            ) from error
        return cls(chain, state["arch"], state["stamp"])

    def _measure(self) -> None:
        """Channels and stride of every layer, from the shapes of one image."""
        side: int = self.arch["image_size"] if self.arch["name"] == "mlp" else 64
        stride = 1
        with torch.device("meta"):
            chain = build(self.arch).eval()
            x = torch.empty(1, self.in_channels, side, side)
            for name, layer in zip(self.layers, chain, strict=False):
                x = layer(x)
                stride = side // x.shape[-1] if x.ndim == 4 else stride
                self.channels[name], self.strides[name] = x.shape[1], stride

    def _too_small(self, images: Tensor, layer: str) -> None:
        H, W = images.shape[-2:]
        raise InputError(
            f"an image of {W} x {H} pixels is too small for layer '{layer}' of {self.stamp}, "
            f"which needs {self.least_side([layer])} pixels on each side",
            hint="take a larger image or an earlier layer",
        )


def vgg_arch(name: str) -> Arch:
    """Description of vgg16 or vgg19 without its head."""
    return {
        "name": name,
        "channels": 3,
        "image_size": 0,
        "num_classes": 0,
        "pooling": "max",
        "padding": "zeros",
    }


def cnn_arch(
    channels: int = 3,
    widths: Sequence[int] = (32, 64, 128, 256),
    depths: Sequence[int] = (2, 2, 2, 2),
    *,
    image_size: int = 0,
    num_classes: int = 0,
    norm: bool = False,
    dropout: float = 0.0,
) -> Arch:
    """Description of a plain convolutional network, by default one without a head."""
    return {
        "name": "cnn",
        "channels": channels,
        "image_size": image_size,
        "num_classes": num_classes,
        "widths": list(widths),
        "depths": list(depths),
        "norm": norm,
        "dropout": dropout,
        "pooling": "max",
        "padding": "zeros",
    }


def random_features(name: str = "vgg19", seed: int = 0) -> FeatureNetwork:
    """vgg16, vgg19 or cnn with weights N(0, 2 / fan_in) (He et al., 2015), which keep the scale of
    the activations. The same seed gives the same weights; torch's own generator is not touched.

    Raises:
        InputError: there is no such network.
    """
    names = [*VGG_DEPTHS, "cnn"]
    if name not in names:
        raise InputError(f"no random network '{name}'", hint=did_you_mean(name, names))
    arch = cnn_arch() if name == "cnn" else vgg_arch(name)
    with torch.device("meta"):
        chain = build(arch)
    chain.to_empty(device="cpu")
    random = torch.Generator().manual_seed(seed)
    for layer in chain:
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=random)
            nn.init.zeros_(layer.bias)
    return FeatureNetwork(chain, arch, f"{name} random seed {seed}")


def perceptual_distance(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Squared distance of activations of unit length at each place, mean over places and over the
    last layers of the stages: (B, C, H, W) twice, in [-1, 1] -> (B,).

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
    2018, https://arxiv.org/abs/1801.03924, equation 1 with all weights 1. It shares the name of no
    published number.
    """
    ends = stage_ends(network.layers)  # type: ignore[arg-type]
    ones, others = network(x, ends), network(y, ends)
    distances = [
        (F.normalize(ones[s].float()) - F.normalize(others[s].float())).square().sum(1)
        for s in ends
    ]
    return torch.stack([d.reshape(len(x), -1).mean(1) for d in distances]).mean(0)


def stage_ends(layers: Sequence[str]) -> list[str]:
    """The last layer of each stage that keeps places: relu1_2, relu2_2 ...; layer1_2 ...; `pooled`
    of a network without stages.
    """
    kept = [name for name in layers if name.startswith(("relu", "layer"))]
    return [list(names)[-1] for _, names in groupby(kept, _stage)] or ["pooled"]


def _stage(layer: str) -> str:
    return layer.split("_")[0]
