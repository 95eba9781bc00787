"""Style transfer by optimization: the pixels of an image until its features have another's style.

Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016. From
coarse to fine by factors of the square root of 2 as in crowsonkb/style-transfer-pytorch: a coarse
image takes the large strokes, each finer one adds detail.

Differs from the paper:
* distances are relative (nn/style.py), so the weights are 1 and 100 whatever the network;
* Adam and an average of the iterates by default; L-BFGS, the paper's, is an option;
* the Gram matrices of an image that is cut in tiles are put together from those of the tiles, and
  its gradient is that of the whole image as far as `overlap` reaches around a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from aigc_cli.models._untrained import UntrainedModule
from aigc_cli.nn.features import FeatureNetwork
from aigc_cli.nn.style import (
    EPS,
    content_layer,
    gram,
    relative,
    require_style,
    style_layers,
    total_variation,
    with_colors_of,
)
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.sampling.noise import SampleNoise

STRIDE = 32  # tiles begin at multiples of it, where all layers of VGG have a position
AVERAGE = 0.99  # decay of the average of the iterates


class Config(Section):
    """The network whose features are compared."""

    TINY: ClassVar[Mapping[str, Any]] = {"features": "random:cnn"}

    features: Name = "efficientnet_lite0"
    """efficientnet_lite0, vgg19, vgg16, random:vgg19, random:cnn, a classifier's run or a .pth
    file of VGG.
    """
    pooling: Literal["max", "avg"] = "avg"
    """vgg: between the stages of the network; the paper prefers averages (section 2)."""


class Model(UntrainedModule):
    """Nothing is trained: `sample` optimizes one image."""

    reference_count = (1, 8)
    config: Config

    def suited(self, network: FeatureNetwork) -> FeatureNetwork:
        """With the pooling asked for, and the border repeated instead of black."""
        if "conv1_1" not in network.layers:
            return network
        return network.modified(pooling=self.config.pooling, padding="replicate")

    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """image (C, H, W) -> (n, C, h, w) with a longer side of `options.size`.

        Raises:
            InputError: a layer that the network does not have, or images too small for it.
        """
        assert given is not None
        for reference in references:
            require_style(reference)
        H, W = given.shape[1:]
        longest = options.size or max(H, W)
        made = []
        starts = noise.randn(*_sized(given, longest).shape).to(given) * 0.3
        for start in starts:
            picture = None if options.start == "content" else start
            for scale in _scales(longest, min(options.coarsest, longest)):
                content = _sized(given, scale)
                styles = [_sized(r, round(scale * options.style_size)) for r in references]
                if picture is None:
                    picture = content
                first = F.interpolate(
                    picture[None], size=content.shape[1:], mode="bicubic", antialias=True
                )
                picture = self._descend(first.clamp(-1, 1), content[None], styles, options)[0]
            assert picture is not None
            if options.preserve_colors and given.shape[0] == 3:
                picture = with_colors_of(picture, _sized(given, longest))
            made.append(picture)
            if options.start == "content":
                break
        return torch.stack(made).expand(noise.count, -1, -1, -1)

    def _descend(
        self, start: Tensor, content: Tensor, styles: Sequence[Tensor], options: Options
    ) -> Tensor:
        """`steps` steps from `start` (1, C, H, W) at one scale."""
        objective = Objective(self.features, content, styles, options)
        picture = start.clone().requires_grad_(True)
        if options.optimizer == "lbfgs":
            lbfgs = torch.optim.LBFGS([picture], max_iter=options.steps, history_size=10)
            lbfgs.step(lambda: objective(picture))
            return picture.detach().clamp(-1, 1)
        adam = torch.optim.Adam([picture], options.lr)
        average, weight = torch.zeros_like(start), 0.0
        for _ in range(options.steps):
            objective(picture)
            adam.step()
            with torch.no_grad():
                picture.clamp_(-1, 1)
                average.lerp_(picture, 1 - AVERAGE)
                weight += (1 - AVERAGE) * (1 - weight)
        return average / weight


@dataclass(frozen=True)
class Tile:
    """A part of an image with what lies around it."""

    outer: tuple[slice, slice]
    top: int
    left: int
    height: int | None
    """Pixels that belong to the tile; None up to the border of the image."""
    width: int | None


class Objective:
    """Content, style and smoothness of an image at one scale; puts the gradient in `.grad`."""

    def __init__(
        self, features: FeatureNetwork, content: Tensor, styles: Sequence[Tensor], options: Options
    ) -> None:
        self.options = options
        self.style_layers = list(options.style_layers or style_layers(features))
        self.content_layer = options.content_layer or content_layer(features)
        self.layers = list(dict.fromkeys((self.content_layer, *self.style_layers)))
        self.features = features.upto(self.layers)
        self.content = content
        with torch.no_grad():
            grams = [self._grams(style[None])[0] for style in styles]
            self.targets = {n: torch.stack([g[n] for g in grams]).mean(0) for n in grams[0]}
            whole = len(list(self._tiles(content))) == 1  # of many tiles, one at a time in memory
            self.kept = next(self._contents()) if whole else None
            sums = [(x.square().sum(), x.numel()) for x in self._contents()]
            self.content_square = sum(s for s, _ in sums) / sum(n for _, n in sums)
            self.content_count = sum(n for _, n in sums)

    def __call__(self, picture: Tensor) -> Tensor:
        """The loss of image (1, C, H, W); its gradient goes to `image.grad`."""
        with torch.enable_grad():
            picture.grad = torch.zeros_like(picture)
            variation = self.options.tv_weight * total_variation(picture).sum()
            variation.backward()
            loss = variation.detach()
            tiles = list(self._tiles(picture))
            if len(tiles) == 1:
                found = self._read(picture, tiles[0], self.layers)
                grams = {n: gram(found[n]) for n in self.style_layers}
                whole = self._style(grams) + self._content(found, tiles[0])
                whole.backward()
                return loss + whole.detach()
            # The style of the whole first; its derivative by the Gram matrices then weighs the
            # Gram matrix of each tile, which is the chain rule with one tile in memory at a time.
            with torch.no_grad():
                grams, positions = self._grams(picture)
            grams = {n: g.requires_grad_(True) for n, g in grams.items()}
            style = self._style(grams)
            slopes = torch.autograd.grad(style, list(grams.values()))
            for tile in tiles:
                found = self._read(picture, tile, self.layers)
                part = self._content(found, tile)
                loss = loss + part.detach()
                for name, slope in zip(grams, slopes, strict=True):
                    x = found[name]
                    share = x[0, 0].numel() / positions[name]
                    part = part + (slope * gram(x)).sum() * share
                part.backward()
            return loss + style.detach()

    def _style(self, grams: dict[str, Tensor]) -> Tensor:
        distances = [relative(g, self.targets[n]).sum() for n, g in grams.items()]
        return self.options.style_weight * torch.stack(distances).mean()

    def _content(self, found: dict[str, Tensor], tile: Tile) -> Tensor:
        name = self.content_layer
        with torch.no_grad():
            target = self.kept
            if target is None:
                target = self._read(self.content, tile, [name])[name]
        square = (found[name] - target).square().sum() / self.content_count
        return self.options.content_weight * square / (self.content_square + EPS)

    def _grams(self, picture: Tensor) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Gram matrices (1, C, C) of a whole image, from those of its tiles, and the number of
        places of each layer.
        """
        total: dict[str, Tensor] = {}
        positions: dict[str, int] = {}
        for tile in self._tiles(picture):
            for name, x in self._read(picture, tile, self.style_layers).items():
                places = x[0, 0].numel()
                total[name] = total.get(name, 0.0) + gram(x) * places
                positions[name] = positions.get(name, 0) + places
        return {name: g / positions[name] for name, g in total.items()}, positions

    def _contents(self) -> Iterator[Tensor]:
        name = self.content_layer
        for tile in self._tiles(self.content):
            yield self._read(self.content, tile, [name])[name]

    def _read(self, picture: Tensor, tile: Tile, layers: Sequence[str]) -> dict[str, Tensor]:
        """Activations of a tile, computed with its surroundings and cut to what is its own."""
        rows, columns = tile.outer
        found = self.features(picture[:, :, rows, columns], layers)
        own = {}
        for name, x in found.items():
            stride = self.features.least_side([name])
            top, left = tile.top // stride, tile.left // stride
            bottom = None if tile.height is None else top + tile.height // stride
            right = None if tile.width is None else left + tile.width // stride
            own[name] = x[:, :, top:bottom, left:right]
        return own

    def _tiles(self, picture: Tensor) -> Iterator[Tile]:
        H, W = picture.shape[2:]
        for top, bottom in _cuts(H, self.options.tile):
            for left, right in _cuts(W, self.options.tile):
                before_y, before_x = min(top, OVERLAP), min(left, OVERLAP)
                rows = slice(top - before_y, min(H, bottom + OVERLAP))
                columns = slice(left - before_x, min(W, right + OVERLAP))
                yield Tile(
                    (rows, columns),
                    before_y,
                    before_x,
                    None if bottom == H else bottom - top,
                    None if right == W else right - left,
                )


OVERLAP = 4 * STRIDE  # beyond the receptive field of relu4_2 (92 pixels) and relu5_1 (132), nearly


def _cuts(length: int, tile: int) -> Iterator[tuple[int, int]]:
    """Equal parts of about `tile` pixels that begin at multiples of STRIDE."""
    if tile == 0 or length <= tile:
        yield 0, length
        return
    parts = math.ceil(length / tile)
    ends = [round(length * n / parts / STRIDE) * STRIDE for n in range(1, parts)]
    yield from zip([0, *ends], [*ends, length], strict=True)


def _scales(longest: int, coarsest: int) -> list[int]:
    """Longer sides from the coarsest on, each sqrt(2) times the one before, up to the longest."""
    count = max(0, math.ceil(2 * math.log2(longest / coarsest) - 1e-9))
    return [round(longest / math.sqrt(2) ** n) for n in range(count, -1, -1)]


def _sized(image: Tensor, longest: int) -> Tensor:
    """(C, H, W) with a longer side of `longest`, in the same proportion."""
    H, W = image.shape[1:]
    scale = longest / max(H, W)
    size = (max(1, round(H * scale)), max(1, round(W * scale)))
    if size == (H, W):
        return image
    return F.interpolate(image[None], size=size, mode="bicubic", antialias=True)[0].clamp(-1, 1)


class Options(Section):
    """What `aigc sample` may set."""

    TINY: ClassVar[Mapping[str, Any]] = {"size": 40, "coarsest": 32, "steps": 2}

    size: int = Field(512, ge=0, le=8192)
    """Longer side of the result in pixels; 0 keeps that of the input."""
    coarsest: int = Field(128, ge=32)
    """Longer side, in pixels, of the first scale."""
    steps: int = Field(200, ge=1)
    """Steps at each scale."""
    optimizer: Literal["adam", "lbfgs"] = "adam"
    """lbfgs is the paper's."""
    lr: float = Field(0.02, gt=0, le=1)
    """Adam's step, in units of half the range of colors."""
    start: Literal["content", "noise"] = "content"
    """What the first scale starts from; noise gives another result for each sample."""
    content_layer: Name | None = None
    """Layer whose activations should stay those of the photograph; null: layer3_2 of EfficientNet,
    relu4_2 of the others.
    """
    style_layers: tuple[Name, ...] = ()
    """Layers whose Gram matrices should become those of the style; without, the first of each stage
    (relu1_1, relu2_1 and so on), or EfficientNet's stem and the ends of its first five stages.
    """
    content_weight: float = Field(1.0, ge=0)
    """Weight of the content distance; 0 makes a texture."""
    style_weight: float = Field(100.0, ge=0)
    """Weight of the style distance."""
    tv_weight: float = Field(0.1, ge=0)
    """Weight of the total variation, which quiets single pixels."""
    style_size: float = Field(1.0, gt=0, le=4)
    """Size of the style images relative to the result: larger means larger strokes."""
    preserve_colors: bool = False
    """Keep the photograph's colors and take only the lightness of what was painted."""
    tile: int = Field(768, ge=0)
    """Largest side, in pixels, of a part that is computed at once; 0 never cuts."""
