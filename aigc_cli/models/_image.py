"""Base of the families that make images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from aigc_cli.models._base import Batch, Example, GenerativeModule
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec, PairSpec, SuperResolutionSpec, UnpairedSpec


class ImageModule(GenerativeModule):
    """Things are images (C, H, W) in [-1, 1]; those that are given come one at a time."""

    makes: ClassVar[str] = "image"
    turns_noise: ClassVar[bool] = True
    same_image: ClassVar[bool] = False
    """Whether the answer is the image that was given, such as a larger one: gray then stays gray,
    and transparency is kept beside the colors instead of being laid over white.
    """

    @abstractmethod
    def sample(
        self,
        noise: SampleNoise,
        options: Any,
        given: Tensor | None = None,
        references: Sequence[Tensor] = (),
    ) -> Tensor:
        """Images (n, C', H', W') in [-1, 1], one for each row of `noise`: out of noise alone, or
        made of the image `given` (C, H, W); `references` (C, h, w) are such as a style.
        """

    def animation(self, given: Tensor, options: Any, noise: SampleNoise) -> list[Tensor]:
        """Frames (C, H, W) of a film that starts from one image; empty unless asked for."""
        return []

    def example(self, batch: Batch, options: Any) -> Example | None:
        """The input side of the item, and beside it what should come out where that is known."""
        if self.takes is None or self.input_optional:
            return None
        match self.spec:
            case SuperResolutionSpec():
                return Example(batch["low"][0], beside={"original": batch["high"][0]})
            case PairSpec():
                return Example(batch["source"][0], beside={"target": batch["target"][0]})
            case UnpairedSpec():
                backwards = getattr(options, "direction", "a2b") == "b2a"
                least, _ = self.reference_count
                style = batch["b"][:least]
                return Example(batch["b" if backwards else "a"][0], tuple(style))
            case ImageSpec():
                return Example(batch["image"][0], beside={"original": batch["image"][0]})
        return None
