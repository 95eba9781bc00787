"""Encoding of images: the part of `image.py` that knows what each format can hold.

Every function takes samples (H, W, C), uint8 or uint16, C = 1 gray, 2 gray alpha, 3 RGB or 4 RGBA,
and raises ValueError or OSError when the format cannot hold them.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo, putchunk

from aigc_cli.media._tiff import tiff_bytes

Samples = NDArray[Any]


@dataclass(frozen=True)
class Extras:
    """What a file may hold beside its samples; `exif` begins with `Exif` and two zeros."""

    exif: bytes | None = None
    icc: bytes | None = None
    text: dict[str, str] = field(default_factory=dict)
    xmp: bytes | None = None


def _png(samples: Samples, extras: Extras) -> bytes:
    info = PngInfo()
    for key, value in extras.text.items():
        info.add_text(key, value)
    if extras.xmp:
        info.add_itxt("XML:com.adobe.xmp", extras.xmp.decode())
    if samples.dtype == np.uint16:
        return _png16(samples, extras, info)
    return _pillow(samples, extras, "PNG", pnginfo=info)


def _jpeg(samples: Samples, extras: Extras) -> bytes:
    if samples.shape[2] in (2, 4):
        raise ValueError("JPEG has no transparency; write PNG, WebP or TIFF")
    return _pillow(samples, extras, "JPEG", quality=95, subsampling=0)


def _webp(samples: Samples, extras: Extras) -> bytes:
    if samples.shape[2] <= 2:
        samples, extras = _as_rgb(samples, extras)
    return _pillow(samples, extras, "WEBP", lossless=True, exact=True)


def _tiff(samples: Samples, extras: Extras) -> bytes:
    if samples.dtype == np.uint16 and samples.shape[2] == 2:  # which few programs can read
        samples, extras = _as_rgb(samples, extras)
    return tiff_bytes(
        samples, exif=extras.exif[6:] if extras.exif else None, icc=extras.icc, xmp=extras.xmp
    )


ENCODERS: dict[str, Callable[[Samples, Extras], bytes]] = {
    ".png": _png,
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".webp": _webp,
    ".tif": _tiff,
    ".tiff": _tiff,
}


def _as_rgb(samples: Samples, extras: Extras) -> tuple[Samples, Extras]:
    """Gray as R = G = B, without the gray profile."""
    channels = [0, 0, 0, 1] if samples.shape[2] == 2 else [0, 0, 0]
    return samples[:, :, channels], replace(extras, icc=None)


def _pillow(samples: Samples, extras: Extras, format: str, **options: Any) -> bytes:
    if samples.dtype != np.uint8:
        raise ValueError(f"{format} has 8 bits for each sample, not 16; write PNG or TIFF")
    if extras.exif:
        options["exif"] = extras.exif
    if extras.xmp and format != "PNG":
        options["xmp"] = extras.xmp
    image = Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
    buffer = io.BytesIO()  # in memory, because Pillow hides why a write to a file failed
    image.save(buffer, format=format, icc_profile=extras.icc, **options)
    return buffer.getvalue()


def _png16(samples: Samples, extras: Extras, info: PngInfo) -> bytes:
    """A 16-bit PNG, which Pillow writes for gray only; every row has the filter Paeth."""
    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    buffer = io.BytesIO()
    buffer.write(b"\x89PNG\r\n\x1a\n")
    putchunk(buffer, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    if extras.icc:
        putchunk(buffer, b"iCCP", b"ICC profile\0\0" + zlib.compress(extras.icc))
    if extras.exif:
        putchunk(buffer, b"eXIf", extras.exif[6:])
    for chunk, data, *_ in info.chunks:
        putchunk(buffer, chunk, data)
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1)
    putchunk(buffer, b"IDAT", zlib.compress(_paeth(rows, 2 * channels), 6))
    putchunk(buffer, b"IEND", b"")
    return buffer.getvalue()


def _paeth(rows: NDArray[np.uint8], step: int) -> bytes:
    """PNG filter 4: the difference to the nearest of left, up and left + up - upper left."""
    height, length = rows.shape
    out = np.full((height, 1 + length), 4, np.uint8)
    above = np.zeros(length, np.int16)
    for y, row in enumerate(rows.astype(np.int16)):
        left, corner = np.zeros_like(row), np.zeros_like(row)
        left[step:], corner[step:] = row[:-step], above[:-step]
        guess = left + above - corner
        to_left, to_above, to_corner = abs(guess - left), abs(guess - above), abs(guess - corner)
        nearest = np.where(to_above <= to_corner, above, corner)
        nearest = np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
        out[y, 1:] = (row - nearest).astype(np.uint8)
        above = row
    return out.tobytes()
