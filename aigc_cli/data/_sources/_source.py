"""What every source of images is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from types import MappingProxyType

from aigc_cli.data._names import folder_labels
from aigc_cli.data._seen import Seens
from aigc_cli.media.image import Raster, png_bytes


class Source(ABC):
    """Numbered images. Instances travel to worker processes without their open files."""

    text: str
    """What the recipe says, for messages."""
    max_pixels: int
    skipped: Mapping[str, int] = MappingProxyType({})
    """Files that are none of the images: by ending, "hidden", or "twice" in an archive."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """Relative name with `/`, free of `..` and control characters; also safe as a file name."""

    @abstractmethod
    def fingerprint(self, index: int) -> str:
        """Text that changes when the stored bytes do."""

    @abstractmethod
    def read(self, index: int) -> Raster:
        """The decoded image, upright.

        Raises:
            DataError: the image cannot be used; the message names it.
        """

    def content(self, index: int) -> bytes:
        """A file of this image: that in which it lies, or else one that decodes to its pixels.

        Raises:
            DataError: the image cannot be used; the message names it.
        """
        return png_bytes(self.read(index))

    def seen(self, numbers: Sequence[int]) -> Seens | None:
        """What decoding these images would show, where the source knows it."""
        return None

    def seal(self) -> str | None:
        """Digest of all bytes of a source whose images are held against their digests whenever they
        are read, so that their fingerprints need not be compared.
        """
        return None

    def twin_name(self, index: int) -> str:
        """What the image that belongs to it in another source is called too: no ending."""
        return str(PurePosixPath(self.name(index)).with_suffix(""))

    def labels(self) -> list[str] | None:
        """Class of each image; None when there are no classes."""
        return folder_labels([self.name(index) for index in range(len(self))])
