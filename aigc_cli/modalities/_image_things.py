"""Sets of images that are judged: parts of a recipe's data, translations, files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from aigc_cli.data._cache import cache_folder
from aigc_cli.data._domains import Scaled
from aigc_cli.data._images import in_8_bits, planes, to_range
from aigc_cli.data._sources import Source
from aigc_cli.metrics._things import Things
from aigc_cli.modalities._judging import Trial
from aigc_cli.sampling.noise import SampleNoise


class DataPart(Things):
    """One image of each item of a data set, such as `image` or the target of a pair.

    `numbers` chooses items; training items come as validation items do, not mirrored.
    """

    def __init__(
        self, items: Any, text: str, *, name: str = "image", numbers: Sequence[int] | None = None
    ) -> None:
        self.items, self.text, self.name = items, text, name
        self.numbers = range(len(items)) if numbers is None else numbers
        self.training = hasattr(items, "__getitems__")  # its keys are (index, seed)

    def __len__(self) -> int:
        return len(self.numbers)

    def first(self, count: int) -> DataPart:
        """The first `count` of them."""
        return DataPart(self.items, self.text, name=self.name, numbers=self.numbers[:count])

    def some(self, count: int, seed: int) -> DataPart:
        """`count` of them at random, or all where they are fewer."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        chosen = [self.numbers[i] for i in order[:count].sort().values.tolist()]
        return DataPart(self.items, self.text, name=self.name, numbers=chosen)

    def _item(self, number: int) -> dict[str, Tensor]:
        index = self.numbers[number]
        item: dict[str, Tensor] = self.items[(index, 0) if self.training else index]
        return item

    def read(self, numbers: Sequence[int]) -> list[Tensor]:
        return [self._item(number)[self.name] for number in numbers]

    def labels(self, numbers: Sequence[int]) -> Tensor | None:
        if not numbers or "label" not in self._item(numbers[0]):
            return None
        return torch.stack([self._item(number)["label"] for number in numbers])

    def key(self) -> list[str]:
        """A digest of the pixels: whatever they were prepared from, and however."""
        state = hashlib.blake2b(digest_size=16)
        for number in range(len(self)):
            (image,) = self.read([number])
            state.update(str(tuple(image.shape)).encode())
            state.update(_levels(image).to(torch.uint8).numpy().tobytes())
        return ["part", state.hexdigest()]


class Whole:
    """One domain of unpaired data, image by image, as validation sees it."""

    def __init__(self, shown: Scaled, config: Any) -> None:
        cache = cache_folder(config.cache)
        self.scaled = Scaled(shown.pictures, config, config.image_size, cache)

    def __len__(self) -> int:
        return len(self.scaled)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        pixels = self.scaled.cut(index, self.scaled.middle(index))
        return {"image": to_range(pixels.copy())}


class Translated(Things):
    """What a model makes of each image of a set, one answer each."""

    def __init__(self, trial: Trial, inputs: Things) -> None:
        self.trial, self.inputs = trial, inputs
        self.text = f"translations of {inputs.text}"

    def __len__(self) -> int:
        return len(self.inputs)

    def read(self, numbers: Sequence[int]) -> list[Tensor]:
        model, options = self.trial.model, self.trial.recipe.sample
        made = []
        for number, image in zip(numbers, self.inputs.read(numbers), strict=True):
            noise = SampleNoise(self.trial.seed, number, 1)
            with torch.no_grad():
                made.append(model.sample(noise, options, image.to(model.device))[0])
        return [rounded(image.float().cpu()) for image in made]


class FileThings(Things):
    """The images of a source, at their own sizes, in 8 bits, without transparency; `numbers`
    chooses some of them.
    """

    def __init__(self, source: Source, numbers: Sequence[int] | None = None) -> None:
        self.source, self.text = source, str(source.text)
        self.numbers = range(len(source)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, numbers: Sequence[int]) -> list[Tensor]:
        read = self.source.read
        return [to_range(planes(in_8_bits(read(self.numbers[n]), 3))) for n in numbers]

    def key(self) -> list[str]:
        return ["files", *(self.source.fingerprint(number) for number in self.numbers)]


def rounded(images: Tensor) -> Tensor:
    """[-1, 1] rounded half up to 8 bits, as a file of it would be."""
    return _levels(images).div(127.5).sub(1)


def _levels(images: Tensor) -> Tensor:
    return images.add(1).mul(127.5).add(0.5).floor().clamp(0, 255)
