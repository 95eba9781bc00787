"""Decoding of hostile image files: the part of `image.py` that knows Pillow's gaps."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from aigc_cli.errors import DataError
from aigc_cli.media._tiff import DESCRIPTIVE_TAGS

Samples = NDArray[Any]  # uint8 or uint16, (H, W, C): gray, gray alpha, RGB or RGBA

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # others, as EPS, start programs
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112

Image.MAX_IMAGE_PIXELS = None  # `opened` has a limit for each call, before pixels are decoded
logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is wrong is raised below


class _Unusable(Exception):
    """Why a file cannot be read, to be completed by its name."""


class _Silence:
    """No warnings while any thread decodes; `catch_warnings` alone is not made for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._users == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._users += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._caught.__exit__(None, None, None)


_silence = _Silence()
if hasattr(os, "register_at_fork"):  # a worker must not inherit a lock that a thread held
    os.register_at_fork(after_in_child=_silence.__init__)  # type: ignore[misc]


@contextmanager
def opened(
    source: Path | bytes | BinaryIO, name: str | None, max_pixels: int
) -> Iterator[tuple[BinaryIO, ImageFile]]:
    """The open file and its header; whatever goes wrong inside becomes a DataError."""
    name = name or (str(source) if isinstance(source, Path) else "the image")
    try:
        with (
            _file(source) as file,
            _silence,
            Image.open(file, formats=_FORMATS) as image,
        ):
            width, height = image.size
            if width * height > max_pixels:
                raise _Unusable(f"{width} x {height} pixels, the limit is {max_pixels:,} in all")
            yield file, image
    except _Unusable as error:
        raise DataError(f"{name}: {error}") from error.__cause__
    except UnidentifiedImageError as error:
        known = "PNG, JPEG, WebP, TIFF, BMP, GIF or PNM"
        raise DataError(f"{name}: not a {known} image, or its header is damaged") from error
    except Exception as error:  # decoders meet hostile bytes with errors of every type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{name}: cut off or damaged ({reason})") from error


@contextmanager
def _file(source: Path | bytes | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        if not source:
            raise _Unusable("empty (0 bytes)")
        yield io.BytesIO(source)
    elif isinstance(source, Path):
        with _regular_file(source) as file:
            yield file
    else:
        yield source


def _regular_file(path: Path) -> BinaryIO:
    """Open for reading, but never wait for a pipe or read a device."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise _Unusable("a folder, not an image")
        if not stat.S_ISREG(status.st_mode):
            raise _Unusable("a pipe, socket or device, not an image")
        if status.st_size == 0:
            raise _Unusable("empty (0 bytes)")
        return path.open("rb")
    except FileNotFoundError as error:
        kind = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise _Unusable(kind) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _Unusable(f"cannot be opened ({getattr(error, 'strerror', error)})") from error


def read_samples(file: BinaryIO, image: ImageFile) -> Samples:
    """(H, W, C), C = 1, 2, 3 or 4; the last of 2 and 4 is alpha. Deep color is where Pillow
    would silently drop the low bytes."""
    deep_color = _bits(image) == 16 and image.mode in ("LA", "RGB", "RGBA")
    if deep_color and image.format == "TIFF":
        return _deep_tiff(file)
    if image.format == "PPM" and image.mode == "RGB" and _most(image) > 255:
        return _deep_ppm(file, image)
    image.load()  # verify() passes half a JPEG, load() does not
    if deep_color:
        return _with_key(_deep_png(file), image)
    if image.format == "PPM" and image.mode == "I":  # which Pillow has scaled to 16 bits
        return np.array(image).astype(np.uint16)[:, :, None]
    if image.mode.startswith("I;16"):
        return _with_key(_gray16(image), image)
    return np.atleast_3d(np.array(_as_8bit_mode(image)))


def _bits(image: ImageFile) -> int:
    """Bits of one sample in the file."""
    if image.format == "TIFF":
        return int(image.tag_v2.get(258, (1,))[0])  # type: ignore[attr-defined]
    rawmode = str(image.tile[0].args) if image.tile else ""
    return 16 if rawmode.endswith(";16B") else 8


def _as_8bit_mode(image: Image.Image) -> Image.Image:
    key = "transparency" in image.info
    match image.mode:
        case "1" | "L":
            return _as_mode(image, "LA" if key else "L")
        case "LA" | "La":
            return _as_mode(image, "LA")
        case "P" | "RGB" | "RGBX" | "YCbCr" | "HSV":
            return _as_mode(image, "RGBA" if key else "RGB")
        case "PA" | "RGBA" | "RGBa":
            return _as_mode(image, "RGBA")
        case "CMYK":
            return _cmyk_to_rgb(image)
        case "LAB":
            raise _Unusable("Lab colors are not supported; save it as RGB")
        case mode:
            raise _Unusable(f"samples of 32 bits ({mode}) are not supported; save it with 16")


def _as_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            srgb = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, inks, srgb, outputMode="RGB")
            assert converted is not None
            return converted
    return image.convert("RGB")


def _gray16(image: Image.Image) -> Samples:
    gray: Samples = np.array(image).astype(np.uint16)[:, :, None]
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(258) == (12,):
            gray = gray << 4 | gray >> 8
        if tags.get(262) == 0:  # white is zero
            gray = 65535 - gray
    return gray


def _with_key(samples: Samples, image: ImageFile) -> Samples:
    """Add the alpha of a PNG that names one 16-bit color as transparent."""
    key = image.info.get("transparency")
    if key is None:
        return samples
    alpha = np.where((samples == np.array(key)).all(axis=2, keepdims=True), 0, 65535)
    return np.concatenate([samples, alpha.astype(np.uint16)], axis=2)


def _deep_png(file: BinaryIO) -> Samples:
    """All bits of a 16-bit PNG with color or alpha; Pillow keeps the high byte of each sample.

    Gray with alpha is laid out as 8-bit RGBA, so the header is rewritten to say that. Of RGB and
    RGBA the low bytes come from a second reading in the other byte order.
    """
    file.seek(0)
    data = file.read()
    if data[24:26] == b"\x10\x04":  # 16 bits, gray with alpha
        header = data[12:24] + b"\x08\x06" + data[26:29]
        data = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.array(image).view(">u2").astype(np.uint16)
    high, low = (_bytes_of_png(data, order) for order in ("16B", "16L"))
    return high.astype(np.uint16) << 8 | low


def _bytes_of_png(data: bytes, order: str) -> Samples:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.tile = [t._replace(args=str(t.args).replace("16B", order)) for t in image.tile]
        return np.array(image)


def _most(image: ImageFile) -> int:
    """The value of white in a PPM."""
    args = image.tile[0].args
    return int(args[1]) if isinstance(args, tuple) and image.tile[0].codec_name == "ppm" else 255


def _deep_ppm(file: BinaryIO, image: ImageFile) -> Samples:
    """All bits of a 16-bit PPM; Pillow keeps 8."""
    H, W = image.height, image.width
    file.seek(image.tile[0].offset)
    data = file.read(6 * H * W)
    if len(data) < 6 * H * W:
        raise _Unusable("cut off or damaged (the pixel data ends too early)")
    values = np.frombuffer(data, ">u2").reshape(H, W, 3).astype(np.uint32)
    white = _most(image)
    return ((values.clip(max=white) * 65535 + white // 2) // white).astype(np.uint16)


def _deep_tiff(file: BinaryIO) -> Samples:
    """All bits of the first page of a 16-bit RGB or RGBA TIFF."""
    import tifffile

    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        if page.compression not in (1, 8, 32773, 32946):  # none, deflate, packbits, deflate
            name = tifffile.COMPRESSION(page.compression).name
            raise _Unusable(f"16-bit color with {name} compression is not supported; use deflate")
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if len(ends) != np.prod(page.chunked) or max(ends) > size:  # or it would be filled with 0
            raise _Unusable("cut off or damaged (the pixel data ends too early)")
        planes = page.asarray(squeeze=False)  # (planes, 1, H, W, samples)
    samples = np.moveaxis(planes[:, 0], 0, -2).reshape(*planes.shape[2:4], -1)
    if samples.shape[2] == 3:
        return samples.astype(np.uint16)
    samples = samples[:, :, :4].astype(np.uint16)
    kind = page.extrasamples[0] if page.extrasamples else 2
    if kind == 0:
        return samples[:, :, :3]
    if kind == 1:  # colors are multiplied by alpha
        alpha = samples[:, :, 3:].astype(np.float64).clip(1)
        samples[:, :, :3] = (samples[:, :, :3] / alpha * 65535 + 0.5).clip(0, 65535)
    return samples


def read_exif(file: BinaryIO, image: ImageFile) -> tuple[int, bytes | None]:
    """The rotation still to be applied (1-8, as in EXIF), and the EXIF without it."""
    if image.format == "TIFF":
        orientation = image.tag_v2.get(_ORIENTATION, 1)  # type: ignore[attr-defined]
        return orientation, _exif_of_tiff(file)  # Pillow removes the tag when it has turned
    exif = image.info.get("exif")
    orientation, upright = take_orientation(exif) if exif else (1, None)
    return orientation if orientation != 1 else _orientation_in_xmp(image), upright


def has_more_frames(image: ImageFile) -> bool:
    """Whether there is a second frame or page; its pixels may be damaged."""
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # as in `opened`, but the first frame is whole
        return False


def xmp_of(image: ImageFile) -> bytes:
    """The XMP packet of a file; empty where it has none."""
    for key in ("xmp", "XML:com.adobe.xmp"):
        found = image.info.get(key)
        if found:
            return found.encode() if isinstance(found, str) else bytes(found)
    tags = getattr(image, "tag_v2", {})
    return bytes(tags.get(700, b"")) if image.format == "TIFF" else b""


def _orientation_in_xmp(image: ImageFile) -> int:
    """What programs write that do not touch the EXIF; 1 when absent."""
    found = re.search(rb'tiff:Orientation(?:\s*=\s*["\']|>)\s*([1-8])\b', xmp_of(image))
    return int(found[1]) if found else 1


def take_orientation(exif: bytes) -> tuple[int, bytes]:
    """Orientation (1 when absent or wrong) and the same EXIF saying 1, all offsets unmoved."""
    if not exif.startswith(_EXIF):
        exif = _EXIF + exif
    order = {b"II": "<", b"MM": ">"}.get(exif[6:8], "=")
    with contextlib.suppress(struct.error):
        directory = 6 + struct.unpack_from(order + "I", exif, 10)[0]
        count = struct.unpack_from(order + "H", exif, directory)[0]
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == _ORIENTATION:
                form = order + ("I" if kind == 4 else "H")
                value = struct.unpack_from(form, exif, entry + 8)[0]
                upright = bytearray(exif)
                struct.pack_into(form, upright, entry + 8, 1)
                return value if 1 <= value <= 8 else 1, bytes(upright)
    return 1, exif


def _exif_of_tiff(file: BinaryIO) -> bytes | None:
    """The tags of a TIFF that speak of the photograph; None without any or with malformed ones."""
    kept = Image.Exif()
    try:
        file.seek(0)
        tags = Image.Exif()
        tags.load_from_fp(file)
        for tag in DESCRIPTIVE_TAGS & set(tags) - {_ORIENTATION}:
            if tag in (0x8769, 0x8825):  # the EXIF and the GPS directory
                kept.get_ifd(tag).update(tags.get_ifd(tag))
            else:
                kept[tag] = tags[tag]
        exif = kept.tobytes()
    except Exception:  # as above; the pixels are right, so the image is
        return None
    return exif if len(kept) or kept._ifds else None


def turn_upright(samples: Samples, orientation: int) -> Samples:
    """Undo how the camera was held; numbers as in EXIF."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples
