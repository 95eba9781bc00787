"""Colors for gray photographs, by classification: no average of brown.

Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016, https://arxiv.org/abs/1603.08511. The
network sees lightness and gives, at a quarter of the resolution, a distribution over bins of the ab
plane; rare colors weigh more in training; the annealed mean of the distribution is the color.

Differs from the paper:
* the bins are the 261 of side 10 that sRGB colors fall into, not the 313 of the published file;
* the prior is counted over the first `prior_steps` steps of training, not beforehand over
  ImageNet, and the weights follow it; afterwards it stays;
* a normal initialization after He et al. 2015, not one by k-means;
* lightness is shifted and scaled by 50, where the released code divides by 100;
* for any image size; luminance keeps its full size and only chroma is predicted from a reduced
  image;
* `features` adds to the third group what a frozen EfficientNet sees in the gray image at twice
  its size: what things are, which some hundred photographs cannot teach.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.media.lab import lab_to_rgb, rgb_to_lab
from aigc_cli.models._base import Batch, Terms
from aigc_cli.models.image._color import ColorizationModule, ColorizationOptions, has_color
from aigc_cli.nn.adam import fused_adam
from aigc_cli.nn.features import FeatureNetwork
from aigc_cli.recipe.dial import Dial
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.specs import Spec

SEEN = {"layer2_2": 24, "layer3_2": 40, "layer5_3": 112, "layer7_1": 320}
"""Layers of EfficientNet-Lite0 that `features` reads, and their channels."""
NEIGHBORS, SIGMA = 5, 5.0  # soft labels: nearest bins, and the Gaussian of their weights

DIAL = Dial(
    goals=("colorize",),
    sizes=(
        {"data.image_size": 64, "model.num_features": 8, "model.depth": 1},
        {"data.image_size": 64, "model.num_features": 16, "model.depth": 2},
        {"data.image_size": 96, "model.num_features": 32, "model.depth": 2},
    ),
    steps=1000,
    always={
        "data.labels": "none", "data.flip": True, "model.prior_steps": 100, "model.uniform": 1.0,
        "model.lr": 1e-3, "model.weight_decay": 1e-4, "trainer.global_batch": 32,
        "trainer.channels_last": True,
    },
    needs="color",
    rank=4,
)  # fmt: skip


class Config(Section):
    """The network, the weights of the colors and the optimizer; the defaults are the paper's."""

    TINY: ClassVar[Mapping[str, Any]] = {"num_features": 4, "depth": 1}

    num_features: int = Field(64, gt=0, le=512)
    """Channels of the first group; the others have 2, 4, 8, 8, 8, 8 and 4 times as many."""
    depth: int = Field(3, gt=0, le=8)
    """Convolutions in each of groups 3 to 7."""
    features: Name = "none"
    """efficientnet_lite0: read what it sees of the gray image; none: the paper's network alone."""
    uniform: float = Field(0.5, ge=0, le=1)
    """Lambda of equation 4, the part of a uniform prior in the weights: 0 weights colors by their
    inverse frequency, 1 all alike.
    """
    prior_steps: int = Field(1000, ge=1)
    """Steps at the start of training whose images give the frequencies of the colors."""
    lr: float = Field(3e-5, gt=0, le=1)
    """Adam's learning rate before the schedule."""
    betas: tuple[float, float] = (0.9, 0.99)
    """Adam's decay of the first and second moment."""
    weight_decay: float = Field(1e-3, ge=0, lt=1)
    """L2 penalty, added to the gradient as in Caffe."""


class Group(nn.Sequential):
    """Convolutions 3x3 with ReLU, then batch normalization; the last one has the stride."""

    def __init__(self, before: int, width: int, depth: int, stride: int = 1, dilation: int = 1):
        layers: list[nn.Module] = []
        for number in range(depth):
            step = stride if number == depth - 1 else 1
            conv = nn.Conv2d(before, width, 3, step, padding=dilation, dilation=dilation)
            layers += [conv, nn.ReLU(inplace=True)]
            before = width
        super().__init__(*layers, nn.BatchNorm2d(width))


class Network(nn.Module):
    """Lightness (B, 1, H, W) in [0, 100] -> logits (B, Q, H / 4, W / 4); He normal weights."""

    def __init__(self, config: Config, classes: int) -> None:
        super().__init__()
        D, depth = config.num_features, config.depth
        channels = 0 if config.features == "none" else sum(SEEN.values())
        self.seen = (
            nn.Sequential(nn.BatchNorm2d(channels, affine=False), nn.Conv2d(channels, 4 * D, 1))
            if channels
            else None
        )
        self.groups = nn.Sequential(
            Group(1, D, 2, stride=2),  # H / 2
            Group(D, 2 * D, 2, stride=2),  # H / 4
            Group(2 * D, 4 * D, depth, stride=2),  # H / 8
            Group(4 * D, 8 * D, depth),
            Group(8 * D, 8 * D, depth, dilation=2),
            Group(8 * D, 8 * D, depth, dilation=2),
            Group(8 * D, 8 * D, depth),
        )
        self.head = nn.Sequential(
            nn.ConvTranspose2d(8 * D, 4 * D, 4, stride=2, padding=1),  # H / 4
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * D, 4 * D, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * D, 4 * D, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * D, classes, 1),
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=0.01)  # all colors alike at first

    def forward(self, L: Tensor, seen: Tensor | None = None) -> Tensor:
        """seen (B, sum of SEEN, h, w), of any size, where the network was made for it."""
        x = self.groups[:3]((L - 50) / 50)  # (B, 4 D, H / 8, W / 8)
        if self.seen is not None and seen is not None:
            x = x + self.seen(F.interpolate(seen, x.shape[-2:], mode="bilinear", antialias=True))
        logits: Tensor = self.head(self.groups[3:](x))
        return logits


class Model(ColorizationModule):
    """Cross-entropy with soft labels, weighted by the rarity of the true color."""

    averaged = ("net",)
    config: Config

    def __init__(self, config: Config, spec: Spec) -> None:
        super().__init__(config, spec)
        self.prior_steps = config.prior_steps
        self.net = Network(config, len(self.bins))

    def suited(self, network: FeatureNetwork) -> FeatureNetwork:
        """
        Raises:
            InputError: it has other layers than EfficientNet-Lite0.
        """
        if any(network.channels.get(name) != width for name, width in SEEN.items()):
            raise InputError(
                f"model.features={self.config.features}: colorize reads the layers of "
                f"efficientnet_lite0, which {network.stamp} has not"
            )
        return network.upto(list(SEEN))

    def logits(self, L: Tensor) -> Tensor:
        """Lightness (B, 1, H, W) in [0, 100] -> logits (B, Q, H / 4, W / 4)."""
        if self.net.seen is None:
            return self.net(L).float()
        with torch.no_grad():
            gray = lab_to_rgb(torch.cat([L, torch.zeros_like(L), torch.zeros_like(L)], 1))
            gray = F.interpolate(gray, scale_factor=2, mode="bilinear")
            maps = self.features(gray, list(SEEN)).values()  # strides 4 to 32 of twice the size
            size = next(iter(maps)).shape[-2:]
            seen = torch.cat([F.interpolate(m, size, mode="bilinear") for m in maps], 1)
        return self.net(L, seen).float()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        return fused_adam(self.net.parameters(), c.lr, c.betas, weight_decay=c.weight_decay)

    def loss(self, batch: Batch) -> Terms:
        L, ab = rgb_to_lab(batch["image"]).split([1, 2], dim=1)
        logits = self.logits(L)  # (B, Q, h, w)
        ab = F.interpolate(ab, size=logits.shape[-2:], mode="nearest")
        index, label = self.soft_labels(ab)  # (B, 5, h, w)
        cross_entropy = -(label * logits.log_softmax(1).gather(1, index)).sum(1)
        weight = self.class_weights(self.config.uniform)[index[:, 0]]  # of the nearest bin
        weight = weight * has_color(ab).view(-1, 1, 1)  # an image without color teaches nothing
        return {
            "loss": (weight * cross_entropy).mean(),
            "cross_entropy": cross_entropy.detach().mean(),
        }

    def soft_labels(self, ab: Tensor) -> tuple[Tensor, Tensor]:
        """Bins and weights, both (B, 5, h, w), the nearest first; the weights add up to 1."""
        distance = torch.cdist(ab.permute(0, 2, 3, 1), self.bins)  # (B, h, w, Q)
        near, index = distance.topk(NEIGHBORS, largest=False)
        label = torch.softmax(-near.square() / (2 * SIGMA**2), dim=-1)
        return index.movedim(-1, 1), label.movedim(-1, 1)

    def chroma(self, L: Tensor, options: Section) -> Tensor:
        """Annealed mean (equation 5): the mean of the distribution raised to 1 / T."""
        assert isinstance(options, Options)
        p = (self.logits(L) / options.temperature).softmax(1)  # (B, Q, h, w)
        return torch.einsum("bqhw,qc->bchw", p, self.bins)

    def options(self) -> Options:
        return Options()


class Options(ColorizationOptions):
    """What `aigc sample` may set."""

    temperature: float = Field(0.38, gt=0, le=1)
    """Of the annealed mean: 1 gives the mean, pale but safe; towards 0 the most likely color,
    vivid but patchy.
    """
