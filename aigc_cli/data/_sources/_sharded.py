"""Images in shards."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from aigc_cli.data._names import folder_labels
from aigc_cli.data._seen import Seens
from aigc_cli.data._shards import Shards
from aigc_cli.data._sources._source import Source
from aigc_cli.errors import DataError
from aigc_cli.media.image import Raster, read_image

MOST = 1 << 30  # bytes of an image file


class Sharded(Source):
    """The images in shards, which were decoded once, when the shards were made.

    Raises:
        DataError: the shards hold something else, or are not what their index says.
    """

    def __init__(self, place: str, inner: str = "") -> None:
        self.shards = Shards(place, inner)
        if not {"height", "width", "mode", "content"} <= self.shards.facts:
            index = self.shards.index
            raise DataError(f"{place} holds {index.items:,} files of {index.modality}, no images")
        self.skipped = dict(self.shards.index.skipped)

    def __len__(self) -> int:
        return len(self.shards)

    def name(self, index: int) -> str:
        return self.shards.name(index)

    def fingerprint(self, index: int) -> str:
        return self.shards.digest(index).hex()

    def content(self, index: int) -> bytes:
        return self.shards.read(index, MOST)

    def read(self, index: int) -> Raster:
        content = self.shards.read(index, MOST)
        return read_image(content, name=self.shards.name(index), max_pixels=self.max_pixels)

    def labels(self) -> list[str] | None:
        codes, folders = self.shards.folders
        labels = folder_labels([f"{folder}/x" if folder else "x" for folder in folders])
        return None if labels is None else [labels[code] for code in codes.tolist()]

    def seen(self, numbers: Sequence[int]) -> Seens | None:
        chosen = np.asarray(numbers, np.int64)
        rows = chosen if self.shards.rows is None else self.shards.rows[chosen]
        height, width, content = (
            self.shards.column(name)[rows] for name in ("height", "width", "content")
        )
        if (height.astype(np.int64) * width > self.max_pixels).any():
            return None
        mode = self.shards.column("mode")
        codes = mode.indices.to_numpy()[rows]
        return Seens(chosen, height, width, codes, mode.dictionary.to_pylist(), content)

    def seal(self) -> str:
        table = self.shards.index.table.sha256
        return blake2b(f"{table} {self.shards.inner}".encode(), digest_size=16).hexdigest()
