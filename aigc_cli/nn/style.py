"""What style is, in the features of a network: Gram matrices, or means and deviations.

Distances are relative: 0 for what is equal and about 1 for what has nothing in common, whatever
the network. Published weights belong to the scale of VGG's activations; relative ones also mean the
same for a classifier of the user's or for random weights.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.nn.features import FeatureNetwork, stage_ends

EPS = 1e-8
LEAST_SIDE = 32
"""Pixels of a side below which no stroke can be seen, and the last stage of VGG has one place."""


def require_style(picture: Tensor) -> None:
    """See that an image (C, H, W) can be a style.

    Raises:
        InputError: a side has fewer than LEAST_SIDE pixels.
    """
    H, W = picture.shape[-2:]
    if min(H, W) < LEAST_SIDE:
        raise InputError(
            f"a style image of {W} x {H} pixels shows no style, it needs {LEAST_SIDE} on each side",
            hint="take a larger image of the same painting",
        )


def gram(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, C), products of channels averaged over positions (Gatys et al. 2016,
    equation 3).
    """
    flat = x.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of every channel, (B, C, 1, 1) each (Huang and Belongie 2017)."""
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return mean, (variance + 1e-5).sqrt()


def adain(content: Tensor, style: Tensor) -> Tensor:
    """`content` (B, C, H, W) with the moments of `style` (B, C, h, w): equation 8 of the same."""
    mean, deviation = moments(content)
    style_mean, style_deviation = moments(style)
    return (content - mean) / deviation * style_deviation + style_mean


def relative(x: Tensor, target: Tensor) -> Tensor:
    """Squared distance in units of the target's square, for each item of (B, ...): (B,)."""
    square = target.square().flatten(1).mean(1)
    return (x - target).square().flatten(1).mean(1) / (square + EPS)


def gram_distance(found: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Mean over the layers of the relative distance of Gram matrices, (B,); `targets` are Gram
    matrices (1 | B, C, C) by layer.
    """
    distances = [
        relative(gram(found[n]), g.expand(len(found[n]), -1, -1)) for n, g in targets.items()
    ]
    return torch.stack(distances).mean(0)


def moment_distance(found: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> Tensor:
    """Mean over the layers of the relative distances of means and deviations, (B,); `targets` are
    activations by layer.
    """
    distances = []
    for name, target in targets.items():
        pairs = zip(moments(found[name]), moments(target), strict=True)
        distances += [relative(ours, theirs) for ours, theirs in pairs]
    return torch.stack(distances).mean(0)


def total_variation(images: Tensor) -> Tensor:
    """Mean square of the differences of neighboring pixels, (B, C, H, W) -> (B,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().flatten(1).mean(1)
    right = (images[:, :, :, 1:] - images[:, :, :, :-1]).square().flatten(1).mean(1)
    return down + right


def style_layers(network: FeatureNetwork) -> list[str]:
    """Layers whose statistics are style: the first of each stage of VGG and the like (relu1_1,
    relu2_1 ...); of EfficientNet, the stem and the last block of each stage down to stride 16.

    Raises:
        InputError: the network has neither.
    """
    layers = network.layers
    if "stem" in layers:
        return ["stem", *(n for n in stage_ends(layers) if network.strides[n] <= 16)]
    found = [name for name in layers if name.startswith("relu") and name.endswith("_1")]
    if not found:
        raise InputError(
            f"{network.stamp} has no layers called relu1_1 and so on",
            hint=f"choose style_layers from: {', '.join(layers)}",
        )
    return found


def content_layer(network: FeatureNetwork) -> str:
    """Layer whose activations are what is shown: of stride 8, relu4_2 of VGG or the last block of
    EfficientNet's third stage.
    """
    return "layer3_2" if "layer3_2" in network.layers else "relu4_2"


_TO_YIQ = torch.tensor(
    [[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], dtype=torch.float64
)


def with_colors_of(image: Tensor, content: Tensor) -> Tensor:
    """Lightness of `image`, colors of `content`, both (..., 3, H, W) in [-1, 1]: the second method
    of Gatys et al., "Preserving Color in Neural Artistic Style Transfer", 2016.
    """
    to_yiq = _TO_YIQ.to(image)
    lightness = torch.einsum("c,...chw->...hw", to_yiq[0], image)
    yiq = torch.einsum("dc,...chw->...dhw", to_yiq, content).clone()
    yiq[..., 0, :, :] = lightness
    return torch.einsum("cd,...dhw->...chw", _TO_YIQ.inverse().to(image), yiq).clamp(-1, 1)
