"""DeepDream: an image changed so that a network sees more of what it already sees in it.

Mordvintsev, Olah and Tyka, "Inceptionism", 2015,
https://research.google/blog/inceptionism-going-deeper-into-neural-networks/. Gradient ascent on the
activations of a layer, from coarse to fine: each octave adds to the original image of that size
the details dreamed at the octave before. Step size, jitter and smoothed gradients have the defaults
of gordicaleksa/pytorch-deepdream.

Differs from those:
* octaves return to the original image, as in the blog's notebook; pytorch-deepdream upscales the
  dreamed image itself, which blurs it;
* large images are dreamed tile by tile; the gradient is normalized over the whole image, so
  tiles do not differ in strength.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._tiles import TileOptions
from aigc_cli.models._untrained import UntrainedModule
from aigc_cli.nn.features import IMAGENET_STD, FeatureNetwork
from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.noise import SampleNoise

UNIT = 2 * sum(IMAGENET_STD) / 3
"""Standard deviation of ImageNet's colors in [-1, 1], the unit of `lr`."""
KERNEL = 9  # pixels of the smoothing kernel's side, as in pytorch-deepdream


class Config(Section):
    """The network that dreams."""

    TINY: ClassVar[Mapping[str, Any]] = {"features": "random:cnn"}

    features: str = "efficientnet_lite0"
    """efficientnet_lite0, vgg16, vgg19, random:vgg19, random:cnn, a .pth file of torchvision's VGG,
    or a classifier's run.
    """


class Model(UntrainedModule):
    """Nothing is trained: `sample` dreams in one image, `animation` falls into it."""

    config: Config

    def sample(
        self,
        noise: SampleNoise,
        options: Options,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """image (C, H, W) in [-1, 1] -> (n, C, H, W), one dream for each row of noise.

        Raises:
            InputError: there is no such layer or channel, or the smallest octave is too small.
        """
        assert given is not None
        options = self._resolved(options)
        shifts = self._shifts(options, noise)
        return torch.stack([self._dream(given, options, shift) for shift in shifts])

    def animation(self, image: Tensor, options: Options, noise: SampleNoise) -> list[Tensor]:
        """`zoom_frames` frames (C, H, W), each dreamed in the upscaled middle of the one before."""
        options = self._resolved(options)
        frames: list[Tensor] = []
        for _ in range(options.zoom_frames):
            (shifts,) = self._shifts(options, noise)
            image = self._dream(image, options, shifts)
            frames.append(image)
            image = zoomed(image, options.zoom)
        return frames

    def _resolved(self, options: Options) -> Options:
        """With the layers named, where the user left them to the network."""
        seen = "layer5_3" if "layer5_3" in self.features.layers else "relu4_3"
        return options if options.layers else options.model_copy(update={"layers": (seen,)})

    def _shifts(self, options: Options, noise: SampleNoise) -> list[list[tuple[int, int]]]:
        """Uniform shifts within `jitter` for every step of every octave, by row of noise."""
        uniform = torch.special.ndtr(noise.randn(options.octaves * options.steps, 2))
        pixels = torch.floor((2 * options.jitter + 1) * uniform) - options.jitter
        return [[(int(y), int(x)) for y, x in row] for row in pixels]

    def _dream(self, image: Tensor, options: Options, shifts: list[tuple[int, int]]) -> Tensor:
        network = self.features
        sizes = octave_sizes(image, options, network)
        original = image[None]
        details: Tensor | None = None
        for octave, size in enumerate(sizes):
            base = original if size == image.shape[-2:] else _resized(original, size)
            x = (base if details is None else base + _resized(details, size)).clamp(-1, 1)
            for step in range(options.steps):
                shift = shifts[octave * options.steps + step]
                x = self._ascend(x, options, step, shift)
            details = x - base
        return x[0]

    def _ascend(self, x: Tensor, options: Options, step: int, shift: tuple[int, int]) -> Tensor:
        """One step along the smoothed and normalized gradient, in an image moved in a circle."""
        x = x.roll(shift, (2, 3))
        gradient = self._gradient(x, options)
        if not gradient.any():
            self._blind(options)
        if options.smoothing > 0:
            sigma = 2 * (step + 1) / options.steps + options.smoothing
            gradient = smoothed(gradient, sigma)
        gradient.sub_(gradient.mean()).div_(gradient.std().clamp_min(1e-12))
        x.add_(gradient, alpha=options.lr * UNIT).clamp_(-1, 1)
        return x.roll((-shift[0], -shift[1]), (2, 3))

    def _blind(self, options: Options) -> None:
        which = f"channels={list(options.channels)}: " if options.channels else ""
        layers = " and ".join(f"'{name}'" for name in options.layers)
        raise InputError(
            f"{which}{layers} of {self.features.stamp} sees nothing in this image",
            hint="take a layer before its ReLU with objective=mean, or other channels",
        )

    def _gradient(self, x: Tensor, options: Options) -> Tensor:
        """Of `activation` by every pixel, (1, C, H, W); tile by tile where the image is large."""
        network = self.features

        def gradient(part: Tensor) -> Tensor:
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                (found,) = torch.autograd.grad(activation(network, part, options), part)
            return found

        return options.cut(gradient, x, multiple=32)


class Options(TileOptions):
    """What `aigc sample` may set."""

    TINY: ClassVar[Mapping[str, Any]] = {"layers": ("relu2_1",), "octaves": 1, "steps": 2}

    layers: tuple[str, ...] = ()
    """Whose activations grow: early layers make strokes and textures, late ones parts of things;
    without, layer5_3 of EfficientNet or relu4_3 of the others.
    """
    channels: tuple[int, ...] = ()
    """Channels of the layers that count, from 0; all when empty."""
    objective: Literal["square", "mean"] = "square"
    """square: everything the layer sees grows; mean: what it sees grows, what it misses is ignored.
    """
    octaves: int = Field(4, ge=1, le=20)
    """Sizes at which the image is dreamed, from the smallest to its own."""
    octave_scale: float = Field(1.8, gt=1, le=8)
    """Ratio of one octave's side to that of the octave before."""
    steps: int = Field(10, ge=1, le=10_000)
    """Steps of gradient ascent in each octave."""
    lr: float = Field(0.09, gt=0, le=10)
    """Size of a step; 1 is the standard deviation of the colors of photographs, 57 levels of 255.
    """
    jitter: int = Field(32, ge=0, le=1024)
    """Pixels by which the image is moved at random before each step, which hides the grid of the
    network.
    """
    smoothing: float = Field(0.5, ge=0, le=100)
    """Least blur of the gradient in pixels; it grows by 2 over the steps of an octave. 0: none."""
    tile: int = Field(512, ge=0)
    """Largest side whose gradient is computed at once; 0 takes the whole image, whatever its
    size.
    """
    overlap: int = Field(64, ge=0)
    """Pixels that neighboring tiles share."""
    zoom_frames: int = Field(0, ge=0, le=2000)
    """Frames of a GIF that dives into the dream; 0 makes none."""
    zoom: float = Field(0.05, gt=0, lt=1)
    """Part of the side that is cut off from one frame to the next."""

    @model_validator(mode="after")
    def _possible(self) -> Options:
        if min(self.channels, default=0) < 0:
            raise ValueError("channels count from 0")
        return self


def activation(network: FeatureNetwork, x: Tensor, options: Options) -> Tensor:
    """What is climbed, a scalar: the sum over positions of the mean over channels, so that tiles
    add up to the whole; the mean over layers.
    """
    total = x.new_zeros(())
    for name, found in network(x, options.layers).items():
        if options.channels:
            _require_channels(network, name, options.channels)
            found = found[:, list(options.channels)]
        value = found.square() if options.objective == "square" else found
        total = total + value.mean(1).sum() / len(options.layers)
    return total


def _require_channels(network: FeatureNetwork, layer: str, channels: tuple[int, ...]) -> None:
    """
    Raises:
        InputError: the layer has fewer channels.
    """
    count = network.channels[layer]
    if max(channels) >= count:
        raise InputError(
            f"channels: layer '{layer}' of {network.stamp} has {count} channels, "
            f"0 to {count - 1}, not {max(channels)}"
        )


def octave_sizes(image: Tensor, options: Options, network: FeatureNetwork) -> list[tuple[int, int]]:
    """(H, W) of each octave, the image's own size last.

    Raises:
        InputError: there is no such layer, or the smallest octave is too small for it.
    """
    H, W = image.shape[-2:]
    scales = [options.octave_scale**o for o in reversed(range(options.octaves))]
    sizes = [(round(H / scale), round(W / scale)) for scale in scales]
    least = max(network.least_side(options.layers), KERNEL // 2 + 1)
    if min(sizes[0]) < least:
        fitting = sum(min(size) >= least for size in sizes)
        raise InputError(
            f"octaves={options.octaves}: the smallest octave of an image of {W} x {H} pixels is "
            f"{sizes[0][1]} x {sizes[0][0]}, the layers need {least} pixels on each side",
            hint=f"octaves={fitting}" if fitting else "take a larger image or an earlier layer",
        )
    return sizes


def smoothed(gradient: Tensor, sigma: float) -> Tensor:
    """The mean of three Gaussian blurs, of sigma / 2, sigma and 2 sigma, (1, C, H, W) -> same."""
    offset = torch.arange(KERNEL, device=gradient.device) - KERNEL // 2
    kernel = gradient.new_zeros(KERNEL, KERNEL)
    for s in (sigma / 2, sigma, 2 * sigma):
        line = torch.exp(-0.5 * (offset / s) ** 2)
        line = line / line.sum()
        kernel += line[:, None] * line / 3
    border = [KERNEL // 2] * 4
    planes = [
        F.conv2d(F.pad(plane, border, mode="reflect"), kernel[None, None])
        for plane in gradient.split(1, 1)
    ]
    return torch.cat(planes, 1)


def zoomed(image: Tensor, part: float) -> Tensor:
    """The middle of image (C, H, W), 1 - part of each side, at the size of the whole."""
    theta = image.new_tensor([[[1 - part, 0, 0], [0, 1 - part, 0]]])
    grid = F.affine_grid(theta, [1, *image.shape], align_corners=False)
    moved = F.grid_sample(image[None], grid, mode="bicubic", align_corners=False)
    return moved[0].clamp(-1, 1)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bicubic", antialias=True, align_corners=False)
