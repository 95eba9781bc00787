"""Options of the families that translate pictures of any size."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from aigc_cli.recipe.sections import Section
from aigc_cli.sampling.anysize import smallest_tile


class TileOptions(Section):
    """How pictures larger than memory are translated."""

    tile: int = Field(768, ge=0)
    """Largest side, in pixels, translated at once; larger pictures are cut. 0: never cut."""
    overlap: int = Field(48, ge=0)
    """Pixels that neighbouring tiles share."""

    @model_validator(mode="after")
    def _tile_beyond_overlap(self) -> Self:
        least = smallest_tile(self.overlap)
        if 0 < self.tile < least:
            raise ValueError(f"an overlap of {self.overlap} needs a tile of {least} or more, or 0")
        return self
