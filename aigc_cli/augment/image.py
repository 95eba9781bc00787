"""Images: varied by the classical operations, written as class folders of PNG.

PyTorch's ImageFolder, Hugging Face's imagefolder and the data kind `images` read them alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.augment import _augmentation
from aigc_cli.augment._augmentation import Draw, Varied
from aigc_cli.augment._folders import InFolders
from aigc_cli.augment._image_operations import Options, vary
from aigc_cli.data._images import in_8_bits, open_parts
from aigc_cli.data._sources import Source, open_source
from aigc_cli.data.images import Config
from aigc_cli.errors import DataError
from aigc_cli.media.image import Raster, from_tensor, png_bytes, read_image
from aigc_cli.modalities._modality import Task
from aigc_cli.modalities.image import seen
from aigc_cli.recipe.load import Recipe, section_from_texts
from aigc_cli.recipe.sections import Section

SIDE = 12  # of the grid on which images are compared


class Reading(Section):
    """How a source that is no recipe is read."""

    labels: bool = True
    """Classes are the names of the folders, or what the source says."""


class Images(_augmentation.Part):
    """Numbered images of a source."""

    def __init__(self, source: Source, numbers: Sequence[int], *, labels: bool = True) -> None:
        self.source, self.numbers, self.text = source, list(numbers), str(source.text)
        known = source.labels() if labels else None
        self._labels = None if known is None else [known[number] for number in self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    def name(self, number: int) -> str:
        return self.source.name(self.numbers[number])

    def labels(self) -> Sequence[str] | None:
        return self._labels

    def read(self, number: int) -> Raster:
        return self.source.read(self.numbers[number])

    def digest(self, thing: Raster) -> str:
        return digest(thing)


class Augmentation(InFolders):
    """Images."""

    Options = Options
    yardstick = "yardstick_cnn"

    def open(self, source: str, key: str, data: Sequence[str]) -> Images:
        asked = section_from_texts(Reading, data, "data")
        found = open_source(source, key=key)
        return Images(found, range(len(found)), labels=asked.labels)

    def open_recipe(self, recipe: Recipe) -> Mapping[str, Images]:
        if not isinstance(recipe.data, Config):
            raise DataError(
                f"recipe '{recipe.name}': data of kind '{recipe.kind}' is not augmented",
                hint="name a recipe with data of kind images, or the images themselves",
            )
        known = recipe.data.labels == "auto"
        return {
            key.removeprefix("data."): Images(part.source, part.numbers, labels=known)
            for key, part in open_parts(recipe.data, recipe.bases).items()
        }

    def vary(
        self, thing: Raster, part: Any, number: int, peers: Sequence[int], draw: Draw
    ) -> Varied:
        image, other = planes(thing), None
        sources: list[int] = []
        if self.options.mix and (others := [peer for peer in peers if peer != number]):
            sources = [others[draw.below(len(others))]]
            other = _fitting(planes(part.read(sources[0])), image)
        varied, done = vary(image, other, self.options, draw)
        return Varied(raster_of(varied, thing), done, sources)

    def file_of(self, thing: Raster) -> tuple[bytes, str]:
        return png_bytes(thing), ".png"

    def given(self, thing: Raster, label: str, task: Task) -> Tensor:
        return seen(thing, task)

    def thing_of_made(self, made: Tensor) -> Raster:
        return Raster(from_tensor(made))

    def read_back(self, out: Path, line: Mapping[str, Any]) -> Raster:
        return read_image(out / line["path"])

    def features(self, thing: Raster) -> Tensor:
        return on_a_grid(thing)


def digest(picture: Raster) -> str:
    """Of the pixels in 8 bits, so that another file of the same image is the same."""
    pixels = in_8_bits(picture, 3)
    return blake2b(f"{pixels.shape}".encode() + pixels.tobytes(), digest_size=16).hexdigest()


def on_a_grid(picture: Raster) -> Tensor:
    """Its colors on a grid of SIDE x SIDE, in [0, 1], (3 SIDE SIDE,)."""
    image = torch.from_numpy(in_8_bits(picture, 3)).permute(2, 0, 1)[None].float().div_(255)
    return F.interpolate(image, size=(SIDE, SIDE), mode="area").flatten()


def planes(picture: Raster) -> Tensor:
    """float (C, H, W) in [0, 1]; transparency is the last of 2 or 4 planes."""
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.concatenate([samples, picture.alpha[:, :, None]], axis=2)
    values = np.ascontiguousarray(samples.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(values).div_(np.iinfo(samples.dtype).max)


def raster_of(image: Tensor, like: Raster) -> Raster:
    """The inverse of `planes`, with the bits and the profile of `like`."""
    dtype = like.pixels.dtype
    top = np.iinfo(dtype).max
    samples = image.mul(top).add_(0.5).floor_().clamp_(0, top).permute(1, 2, 0).numpy()
    samples = samples.astype(dtype)
    if like.alpha is None:
        return Raster(samples, icc=like.icc)
    return Raster(samples[:, :, :-1], samples[:, :, -1], icc=like.icc)


def _fitting(other: Tensor, image: Tensor) -> Tensor:
    """Another image brought to the planes and the size of `image`."""
    C, H, W = image.shape
    colors = other if len(other) in (1, 3) else other[:-1]
    wanted = C if C in (1, 3) else C - 1
    colors = colors.mean(0, keepdim=True) if wanted == 1 else colors.expand(3, -1, -1)
    if colors.shape[1:] == (H, W):
        return colors
    sized = F.interpolate(
        colors[None], size=(H, W), mode="bilinear", antialias=True, align_corners=False
    )
    return sized[0]
