"""Images from and to files: PNG, JPEG, WebP and TIFF, and BMP and GIF for reading.

An image is what a person sees in the file: upright, gray or RGB, with its transparency, its 8 or
16 bits, its EXIF and its color profile. Files are treated as hostile: the size is checked before
the pixels are decoded, and whatever is wrong with a file becomes one sentence.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from aigc_cli.errors import OutputError
from aigc_cli.media._decode import has_more_frames, opened, read_exif, read_samples, turn_upright
from aigc_cli.media._encode import ENCODERS, Extras
from aigc_cli.media.files import write_bytes

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[Any]  # uint8 or uint16

MAX_PIXELS = 40_000_000
"""Largest image that is decoded, unless the caller says otherwise."""

SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif",
    ".pbm", ".pgm", ".ppm", ".pnm",
)  # fmt: skip
"""Endings of the files that `read_image` is for."""


@dataclass(frozen=True, eq=False)
class Raster:
    """pixels (H, W, C), C = 1 gray or 3 RGB, and alpha (H, W); both uint8 or both uint16.

    `exif` begins with `Exif` and two zeros; `icc` is a profile for this number of channels.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    exif: bytes | None = None
    icc: bytes | None = None
    is_first: bool = False
    """Whether the file holds more frames or pages behind this one."""

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def channels(self) -> int:
        return int(self.pixels.shape[2])

    @property
    def bits(self) -> int:
        return 8 * self.pixels.dtype.itemsize

    def as_channels(self, channels: int) -> Raster:
        """Gray as R = G = B, or RGB as its luma (BT.601); the profile no longer fits and goes."""
        if channels == self.channels:
            return self
        if channels == 3:
            return replace(self, pixels=np.repeat(self.pixels, 3, axis=2), icc=None)
        if channels == 1:
            luma = self.pixels @ np.array([0.299, 0.587, 0.114])
            gray = np.floor(luma + 0.5).astype(self.pixels.dtype)
            return replace(self, pixels=gray[:, :, None], icc=None)
        raise ValueError(f"an image has 1 or 3 channels, not {channels}")

    def as_bits(self, bits: int) -> Raster:
        """The same image with 8 or 16 bits for each sample."""
        alpha = None if self.alpha is None else _as_bits(self.alpha, bits)
        return replace(self, pixels=_as_bits(self.pixels, bits), alpha=alpha)


@dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of a file say: size as shown, mode and format in Pillow's words."""

    width: int
    height: int
    mode: str
    format: str


def begins_like_image(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of a format that `read_image` knows."""
    starts = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")
    bmp = head[:2] == b"BM" and head[6:10] == bytes(4)
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    netpbm = re.match(rb"P[1-6]\s+[0-9#]", head) is not None
    return head.startswith(starts) or bmp or webp or netpbm


# -- reading ---------------------------------------------------------------------------------------


def read_image(
    source: Path | bytes | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Raster:
    """Read the first frame of a file; `name` stands for the source in error messages.

    1-bit images become gray, palettes RGB; CMYK becomes RGB with 8 bits, through the profile of
    the file where it has one. EXIF rotation is applied.

    Raises:
        DataError: not a regular file, empty, of no known format, cut off or damaged, larger than
            `max_pixels`, or with 32-bit samples.
    """
    with opened(source, name, max_pixels) as (file, image):
        samples = read_samples(file, image)
        orientation, exif = read_exif(file, image)
        profile = image.info.get("icc_profile")
        is_first = has_more_frames(image)
    samples = turn_upright(samples, orientation)
    channels = 3 if samples.shape[2] >= 3 else 1
    return Raster(
        pixels=np.ascontiguousarray(samples[:, :, :channels]),
        alpha=np.ascontiguousarray(samples[:, :, -1]) if samples.shape[2] > channels else None,
        exif=exif,
        icc=profile if _profile_fits(profile, channels) else None,
        is_first=is_first,
    )


def probe_image(
    source: Path | bytes | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> ImageHeader:
    """Read the header only; the pixels behind it may still be damaged.

    Raises:
        DataError: as `read_image`, as far as the header shows it.
    """
    with opened(source, name, max_pixels) as (file, image):
        width, height = image.size  # Pillow has turned a TIFF already
        if image.format != "TIFF" and read_exif(file, image)[0] >= 5:
            width, height = height, width
        return ImageHeader(width, height, image.mode, image.format or "")


def _profile_fits(profile: bytes | None, channels: int) -> bool:
    return profile is not None and profile[16:20] == (b"GRAY" if channels == 1 else b"RGB ")


# -- writing ---------------------------------------------------------------------------------------


def write_image(
    path: Path, picture: Raster, *, text: dict[str, str] | None = None, xmp: bytes | None = None
) -> None:
    """Write PNG, JPEG (quality 95, 4:4:4), WebP (lossless) or TIFF (deflate) by the ending.

    Alpha, 16 bits, EXIF and profile are kept; `text` becomes text chunks of a PNG and is left out
    elsewhere; `xmp` is a packet such as `media/record.py` makes. The file appears whole or not at
    all.

    Raises:
        OutputError: an ending or a format that cannot hold the image, or an unwritable place.
        DiskFullError: no space left.
    """
    encode = ENCODERS.get(path.suffix.lower())
    if encode is None:
        known = ", ".join(ENCODERS)
        raise OutputError(f"cannot write {path}: images end in {known}, not {path.suffix!r}")
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.concatenate([samples, picture.alpha[:, :, None]], axis=2)
    try:
        data = encode(samples, Extras(exif=picture.exif, icc=picture.icc, text=text or {}, xmp=xmp))
    except (ValueError, OSError) as error:  # WebP ends at 16383 pixels, JPEG at 65500
        raise OutputError(f"cannot write {path}: {error}") from error
    write_bytes(path, data)


def png_bytes(picture: Raster) -> bytes:
    """A PNG of the same pixels, with alpha and 16 bits where it has them."""
    samples = picture.pixels
    if picture.alpha is not None:
        samples = np.concatenate([samples, picture.alpha[:, :, None]], axis=2)
    return ENCODERS[".png"](samples, Extras(exif=None, icc=picture.icc, text={}, xmp=None))


def write_animation(path: Path, pictures: Sequence[Raster], *, frame_ms: int = 80) -> None:
    """Write an endless GIF of equally large images, with a palette of its own for each frame.

    Raises: as `write_image`.
    """
    frames = [Image.fromarray(p.as_channels(3).as_bits(8).pixels) for p in pictures]
    frames = [frame.quantize(256, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=frame_ms, loop=0)
    write_bytes(path, data.getvalue())


# -- tensors and sheets ----------------------------------------------------------------------------


def to_tensor(pixels: Pixels) -> Tensor:
    """uint8 or uint16 (H, W, C) -> float32 (C, H, W) in [-1, 1]."""
    import torch

    values = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    values /= np.iinfo(pixels.dtype).max / 2
    values -= 1
    return torch.from_numpy(values)


def from_tensor(tensor: Tensor, dtype: type[np.uint8] | type[np.uint16] = np.uint8) -> Pixels:
    """float (C, H, W) in [-1, 1] -> (H, W, C); clipped, rounded half up."""
    top = np.iinfo(dtype).max
    C, H, W = tensor.shape
    pixels = np.empty((H, W, C), dtype)
    for channel, plane in enumerate(tensor.detach()):  # one at a time, since images may be large
        levels = plane.float().add(1).mul_(top / 2).add_(0.5).floor_().clamp_(0, top)
        pixels[..., channel] = levels.cpu().numpy()
    return pixels


def tile_grid(
    pictures: Sequence[Raster], columns: int, *, labels: Sequence[str] | None = None
) -> Raster:
    """One 8-bit RGB sheet, row by row, on white; each cell as large as the largest image.

    `labels` has one line of text for each image, written above it.
    """
    if not pictures or columns < 1 or (labels is not None and len(labels) != len(pictures)):
        raise ValueError("needs images, columns >= 1 and as many labels as images")
    labels = labels or []
    font = ImageFont.load_default(13)
    gap, caption = 4, 18 if labels else 0
    widths = [*(p.width for p in pictures), *(ceil(font.getlength(t)) for t in labels)]
    cell_w = gap + max(widths)
    cell_h = gap + caption + max(p.height for p in pictures)
    columns = min(columns, len(pictures))
    rows = ceil(len(pictures) / columns)

    sheet = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * cell_w, gap + i // columns * cell_h
        image = Image.fromarray(picture.as_channels(3).as_bits(8).pixels)
        mask = None if picture.alpha is None else Image.fromarray(_as_bits(picture.alpha, 8))
        sheet.paste(image, (x, y + caption), mask)
        if labels:
            draw.text((x, y), labels[i], fill="black", font=font)
    return Raster(np.array(sheet))


def _as_bits(samples: Pixels, bits: int) -> Pixels:
    if bits not in (8, 16):
        raise ValueError(f"a sample has 8 or 16 bits, not {bits}")
    if bits == 8 * samples.dtype.itemsize:
        return samples
    if bits == 16:
        return samples.astype(np.uint16) * 257  # 255 and 65535 are the same white
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
