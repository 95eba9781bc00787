"""Options of the families that work on images of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.anysize import any_size, smallest_tile
from aigc_cli.sampling.border import BORDER, bordered
from aigc_cli.sampling.tiling import tiled


class TileOptions(Section):
    """How images larger than memory are worked on."""

    tile: int = Field(768, ge=0)
    """Largest side, in pixels, translated at once; larger images are cut. 0: never cut."""
    overlap: int = Field(48, ge=0)
    """Pixels that neighboring tiles share."""

    @model_validator(mode="after")
    def _tile_beyond_overlap(self) -> Self:
        least = smallest_tile(self.overlap)
        if 0 < self.tile < least:
            raise ValueError(f"an overlap of {self.overlap} needs a tile of {least} or more, or 0")
        return self

    def apply(
        self,
        net: Callable[[Tensor], Tensor],
        image: Tensor,
        *,
        multiple: int,
        norms: nn.Module | None = None,
        learned: int = 0,
    ) -> Tensor:
        """net(image) (B, C, H, W) for any H and W, with context around it: see `any_size`.

        A network that was trained on whole images of `learned` x `learned` pixels has learned what
        is at their borders, so those get no context: on facades, whose frame is at the border, it
        makes the outer 4 pixels 6 % worse, and those of crops 4 times better.
        """
        border = 0 if image.shape[-2:] == (learned, learned) else BORDER
        return any_size(
            net,
            image,
            multiple=multiple,
            tile=self.tile,
            overlap=self.overlap,
            border=border,
            norms=norms,
        )

    def cut(
        self,
        fn: Callable[[Tensor], Tensor],
        image: Tensor,
        *,
        scale: int = 1,
        border: int = 0,
        multiple: int = 1,
    ) -> Tensor:
        """fn(image), which takes any size, with `border` pixels of context around it (`bordered`)
        and tile by tile where a side exceeds `tile` (`tiled`).
        """

        def in_tiles(x: Tensor) -> Tensor:
            return tiled(
                fn, x, tile=self.tile, overlap=self.overlap, scale=scale, multiple=multiple
            )

        cuts = 0 < self.tile < max(image.shape[-2:])
        return bordered(in_tiles if cuts else fn, image, border, scale)


class SizedOptions(TileOptions):
    """How images of any size are translated."""

    short_side: int = Field(0, ge=0)
    """Shorter side in pixels to which images are brought first, such as the size trained with; 0:
    as they are.
    """

    def brought(self, image: Tensor) -> Tensor:
        """(B, C, H, W) at the size to be translated."""
        H, W = image.shape[-2:]
        if self.short_side in (0, min(H, W)):
            return image
        size = [max(1, round(side * self.short_side / min(H, W))) for side in (H, W)]
        return F.interpolate(image, size=size, mode="bicubic", antialias=True).clamp(-1, 1)
