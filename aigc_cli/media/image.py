"""Pictures from and to files: PNG, JPEG, WebP and TIFF, and BMP and GIF for reading.

A picture is what a person sees in the file: upright, gray or RGB, with its transparency, its 8 or
16 bits, its EXIF and its colour profile. Files are treated as hostile: the size is checked before
the pixels are decoded, and whatever is wrong with a file becomes one sentence.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw, ImageFont, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngInfo, putchunk

from aigc_cli.errors import DataError, OutputError
from aigc_cli.media.files import write_bytes
from aigc_cli.media.tiff import DESCRIPTIVE_TAGS, tiff_bytes

if TYPE_CHECKING:
    from torch import Tensor

Pixels = NDArray[Any]  # uint8 or uint16

MAX_PIXELS = 40_000_000
"""Largest picture that is decoded, unless the caller says otherwise."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
"""Endings of the files that `read_picture` is for."""

_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")  # others, as EPS, start programs
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112


@dataclass(frozen=True, eq=False)
class Picture:
    """pixels (H, W, C), C = 1 gray or 3 RGB, and alpha (H, W); both uint8 or both uint16.

    `exif` begins with `Exif` and two zeros; `icc` is a profile for this number of channels.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    exif: bytes | None = None
    icc: bytes | None = None

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

    def as_channels(self, channels: int) -> Picture:
        """Gray as R = G = B, or RGB as its luma (BT.601); the profile no longer fits and goes."""
        if channels == self.channels:
            return self
        if channels == 3:
            return replace(self, pixels=np.repeat(self.pixels, 3, axis=2), icc=None)
        if channels == 1:
            luma = self.pixels @ np.array([0.299, 0.587, 0.114])
            gray = np.floor(luma + 0.5).astype(self.pixels.dtype)
            return replace(self, pixels=gray[:, :, None], icc=None)
        raise ValueError(f"a picture has 1 or 3 channels, not {channels}")

    def as_bits(self, bits: int) -> Picture:
        """The same picture with 8 or 16 bits for each sample."""
        alpha = None if self.alpha is None else _as_bits(self.alpha, bits)
        return replace(self, pixels=_as_bits(self.pixels, bits), alpha=alpha)


@dataclass(frozen=True)
class PictureHeader:
    """What the first bytes of a file say: size as shown, mode and format in Pillow's words."""

    width: int
    height: int
    mode: str
    format: str


# -- reading ---------------------------------------------------------------------------------------


def read_picture(
    source: Path | bytes | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Read the first frame of a file; `name` stands for the source in error messages.

    1-bit pictures become gray, palettes RGB; CMYK becomes RGB with 8 bits, through the profile of
    the file where it has one. EXIF rotation is applied.

    Raises:
        DataError: not a regular file, empty, of no known format, cut off or damaged, larger than
            `max_pixels` (or than Pillow's own limit of 179 million), or with 32-bit samples.
    """
    with _opened(source, name, max_pixels) as (file, image):
        samples = _samples(file, image)
        orientation, exif = _exif(file, image)
        profile = image.info.get("icc_profile")
    samples = _upright(samples, orientation)
    channels = 3 if samples.shape[2] >= 3 else 1
    return Picture(
        pixels=np.ascontiguousarray(samples[:, :, :channels]),
        alpha=np.ascontiguousarray(samples[:, :, -1]) if samples.shape[2] > channels else None,
        exif=exif,
        icc=profile if _profile_fits(profile, channels) else None,
    )


def probe_picture(
    source: Path | bytes | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> PictureHeader:
    """Read the header only; the pixels behind it may still be damaged.

    Raises:
        DataError: as `read_picture`, as far as the header shows it.
    """
    with _opened(source, name, max_pixels) as (_, image):
        width, height = image.size  # Pillow has turned a TIFF already
        if image.format != "TIFF" and _take_orientation(image.info.get("exif", b""))[0] >= 5:
            width, height = height, width
        return PictureHeader(width, height, image.mode, image.format or "")


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
def _opened(
    source: Path | bytes | BinaryIO, name: str | None, max_pixels: int
) -> Iterator[tuple[BinaryIO, ImageFile]]:
    """The open file and its header; whatever goes wrong inside becomes a DataError."""
    name = name or (str(source) if isinstance(source, Path) else "the picture")
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
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: the limit is {max_pixels:,} pixels ({error})") from error
    except UnidentifiedImageError as error:
        known = "PNG, JPEG, WebP, TIFF, BMP or GIF"
        raise DataError(f"{name}: not a {known} picture, or its header is damaged") from error
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
            raise _Unusable("a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise _Unusable("a pipe, socket or device, not a picture")
        if status.st_size == 0:
            raise _Unusable("empty (0 bytes)")
        return path.open("rb")
    except FileNotFoundError as error:
        kind = "a link to a file that is not there" if path.is_symlink() else "no such file"
        raise _Unusable(kind) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _Unusable(f"cannot be opened ({getattr(error, 'strerror', error)})") from error


def _samples(file: BinaryIO, image: ImageFile) -> Pixels:
    """(H, W, C), C = 1, 2, 3 or 4; the last of 2 and 4 is alpha. Deep colour is where Pillow
    would silently drop the low bytes."""
    deep_colour = _bits(image) == 16 and image.mode in ("LA", "RGB", "RGBA")
    if deep_colour and image.format == "TIFF":
        return _deep_tiff(file)
    image.load()  # verify() passes half a JPEG, load() does not
    if deep_colour:
        return _with_key(_deep_png(file), image)
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
            return image.convert("LA" if key else "L")
        case "LA" | "La":
            return image.convert("LA")
        case "P" | "RGB" | "RGBX" | "YCbCr" | "HSV":
            return image.convert("RGBA" if key else "RGB")
        case "PA" | "RGBA" | "RGBa":
            return image.convert("RGBA")
        case "CMYK":
            return _cmyk_to_rgb(image)
        case "LAB":
            raise _Unusable("Lab colours are not supported; save it as RGB")
        case mode:
            raise _Unusable(f"samples of 32 bits ({mode}) are not supported; save it with 16")


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


def _gray16(image: Image.Image) -> Pixels:
    gray: Pixels = np.array(image).astype(np.uint16)[:, :, None]
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if tags.get(258) == (12,):
            gray = gray << 4 | gray >> 8
        if tags.get(262) == 0:  # white is zero
            gray = 65535 - gray
    return gray


def _with_key(samples: Pixels, image: ImageFile) -> Pixels:
    """Add the alpha of a PNG that names one 16-bit colour as transparent."""
    key = image.info.get("transparency")
    if key is None:
        return samples
    alpha = np.where((samples == np.array(key)).all(axis=2, keepdims=True), 0, 65535)
    return np.concatenate([samples, alpha.astype(np.uint16)], axis=2)


def _deep_png(file: BinaryIO) -> Pixels:
    """All bits of a 16-bit PNG with colour or alpha; Pillow keeps the high byte of each sample.

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


def _bytes_of_png(data: bytes, order: str) -> Pixels:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.tile = [t._replace(args=str(t.args).replace("16B", order)) for t in image.tile]
        return np.array(image)


def _deep_tiff(file: BinaryIO) -> Pixels:
    """All bits of the first page of a 16-bit RGB or RGBA TIFF."""
    import tifffile

    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        if page.compression not in (1, 8, 32773, 32946):  # none, deflate, packbits, deflate
            name = tifffile.COMPRESSION(page.compression).name
            raise _Unusable(f"16-bit colour with {name} compression is not supported; use deflate")
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > size:
            raise _Unusable("cut off or damaged (the pixel data ends too early)")
        planes = page.asarray(squeeze=False)  # (planes, 1, H, W, samples)
    samples = np.moveaxis(planes[:, 0], 0, -2).reshape(*planes.shape[2:4], -1)
    if samples.shape[2] == 3:
        return samples.astype(np.uint16)
    samples = samples[:, :, :4].astype(np.uint16)
    kind = page.extrasamples[0] if page.extrasamples else 2
    if kind == 0:
        return samples[:, :, :3]
    if kind == 1:  # colours are multiplied by alpha
        alpha = samples[:, :, 3:].astype(np.float64).clip(1)
        samples[:, :, :3] = (samples[:, :, :3] * 65535 / alpha + 0.5).clip(0, 65535)
    return samples


def _exif(file: BinaryIO, image: ImageFile) -> tuple[int, bytes | None]:
    """The rotation still to be applied (1-8, as in EXIF), and the EXIF without it."""
    if image.format == "TIFF":
        orientation = image.tag_v2.get(_ORIENTATION, 1)  # type: ignore[attr-defined]
        return orientation, _exif_of_tiff(file)  # Pillow removes the tag when it has turned
    exif = image.info.get("exif")
    return _take_orientation(exif) if exif else (1, None)


def _take_orientation(exif: bytes) -> tuple[int, bytes]:
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
    except Exception:  # as above; the pixels are right, so the picture is
        return None
    return exif if len(kept) or kept._ifds else None


def _upright(samples: Pixels, orientation: int) -> Pixels:
    """Undo how the camera was held; numbers as in EXIF."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _profile_fits(profile: bytes | None, channels: int) -> bool:
    return profile is not None and profile[16:20] == (b"GRAY" if channels == 1 else b"RGB ")


# -- writing ---------------------------------------------------------------------------------------


def write_picture(path: Path, picture: Picture, *, text: dict[str, str] | None = None) -> None:
    """Write PNG, JPEG (quality 95, 4:4:4), WebP (lossless) or TIFF (deflate) by the ending.

    Alpha, 16 bits, EXIF and profile are kept; `text` becomes text chunks of a PNG and is left out
    elsewhere. The file appears whole or not at all.

    Raises:
        OutputError: an ending or a format that cannot hold the picture, or an unwritable place.
        DiskFullError: no space left.
    """
    encode = _ENCODERS.get(path.suffix.lower())
    if encode is None:
        raise OutputError(
            f"cannot write {path}: pictures end in {', '.join(_ENCODERS)}, not {path.suffix!r}"
        )
    try:
        data = encode(picture, text or {})
    except (_Unusable, ValueError, OSError) as error:  # WebP ends at 16383 pixels, JPEG at 65535
        raise OutputError(f"cannot write {path}: {error}") from error
    write_bytes(path, data)


def _png(picture: Picture, text: dict[str, str]) -> bytes:
    info = PngInfo()
    for key, value in text.items():
        info.add_text(key, value)
    if picture.bits == 8:
        return _pillow(picture, "PNG", pnginfo=info)
    return _png16(picture, info)


def _jpeg(picture: Picture, text: dict[str, str]) -> bytes:
    if picture.alpha is not None:
        raise _Unusable("JPEG has no transparency; write PNG, WebP or TIFF")
    return _pillow(picture, "JPEG", quality=95, subsampling=0)


def _webp(picture: Picture, text: dict[str, str]) -> bytes:
    return _pillow(picture, "WEBP", lossless=True, exact=True)


def _tiff(picture: Picture, text: dict[str, str]) -> bytes:
    samples = _all_samples(picture)
    if samples.shape[2] == 2 and picture.bits == 16:  # which few programs can read
        samples = _all_samples(picture.as_channels(3))
    exif = picture.exif[6:] if picture.exif else None
    return tiff_bytes(samples, alpha=picture.alpha is not None, exif=exif, icc=picture.icc)


_ENCODERS: dict[str, Callable[[Picture, dict[str, str]], bytes]] = {
    ".png": _png,
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".webp": _webp,
    ".tif": _tiff,
    ".tiff": _tiff,
}


def _pillow(picture: Picture, format: str, **options: Any) -> bytes:
    if picture.bits != 8:
        raise _Unusable(f"{format} has 8 bits for each sample, not 16; write PNG or TIFF")
    if picture.exif:
        options["exif"] = picture.exif
    samples = _all_samples(picture)
    image = Image.fromarray(samples[:, :, 0] if samples.shape[2] == 1 else samples)
    buffer = io.BytesIO()  # in memory, because Pillow hides why a write to a file failed
    image.save(buffer, format=format, icc_profile=picture.icc, **options)
    return buffer.getvalue()


def _png16(picture: Picture, info: PngInfo) -> bytes:
    """A 16-bit PNG, which Pillow writes for gray only; every row has the filter Paeth."""
    samples = _all_samples(picture)
    height, width, channels = samples.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    buffer = io.BytesIO()
    buffer.write(b"\x89PNG\r\n\x1a\n")
    putchunk(buffer, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    if picture.icc:
        putchunk(buffer, b"iCCP", b"ICC profile\0\0" + zlib.compress(picture.icc))
    if picture.exif:
        putchunk(buffer, b"eXIf", picture.exif.removeprefix(_EXIF))
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


def _all_samples(picture: Picture) -> Pixels:
    """(H, W, C), with alpha as the last channel where there is one."""
    if picture.alpha is None:
        return picture.pixels
    return np.concatenate([picture.pixels, picture.alpha[:, :, None]], axis=2)


# -- tensors and sheets ----------------------------------------------------------------------------


def to_tensor(pixels: Pixels) -> Tensor:
    """uint8 or uint16 (H, W, C) -> float32 (C, H, W) in [-1, 1]."""
    import torch

    half = np.iinfo(pixels.dtype).max / 2
    return torch.from_numpy((pixels.astype(np.float32) / half - 1).transpose(2, 0, 1).copy())


def from_tensor(tensor: Tensor, dtype: type[np.uint8] | type[np.uint16] = np.uint8) -> Pixels:
    """float (C, H, W) in [-1, 1] -> (H, W, C); clipped, rounded half up."""
    top = np.iinfo(dtype).max
    values = tensor.detach().cpu().float().numpy().transpose(1, 2, 0)
    levels = np.floor((values.astype(np.float64) + 1) * (top / 2) + 0.5)
    return np.ascontiguousarray(levels.clip(0, top), dtype=dtype)


def tile_grid(
    pictures: Sequence[Picture], columns: int, *, labels: Sequence[str] | None = None
) -> Picture:
    """One 8-bit RGB sheet, row by row, on white; each cell as large as the largest picture.

    `labels` has one line of text for each picture, written above it.
    """
    if not pictures or columns < 1 or (labels is not None and len(labels) != len(pictures)):
        raise ValueError("needs pictures, columns >= 1 and as many labels as pictures")
    gap, caption = 4, 18 if labels else 0
    cell_w = max(p.width for p in pictures) + gap
    cell_h = max(p.height for p in pictures) + gap + caption
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, picture in enumerate(pictures):
        x, y = gap + i % columns * cell_w, gap + i // columns * cell_h
        if labels:
            draw.text((x, y), labels[i], fill="black", font=font)
        image = Image.fromarray(picture.as_channels(3).as_bits(8).pixels)
        mask = None if picture.alpha is None else Image.fromarray(_as_bits(picture.alpha, 8))
        sheet.paste(image, (x, y + caption), mask)
    return Picture(np.array(sheet))


def _as_bits(samples: Pixels, bits: int) -> Pixels:
    if bits not in (8, 16):
        raise ValueError(f"a sample has 8 or 16 bits, not {bits}")
    if bits == 8 * samples.dtype.itemsize:
        return samples
    if bits == 16:
        return samples.astype(np.uint16) * 257  # 255 and 65535 are the same white
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
