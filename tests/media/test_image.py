"""Images in every odd format, in hostile files, and back from disk unchanged."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from aigc_cli.errors import DataError, DiskFullError, OutputError
from aigc_cli.media.image import (
    Raster,
    from_tensor,
    probe_image,
    read_image,
    tile_grid,
    to_tensor,
    write_image,
)

H, W = 19, 26
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(*shape: int, bits: int = 8, seed: int = 0) -> np.ndarray:
    dtype = np.uint8 if bits == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, shape).astype(dtype)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> bytes:
    """EXIF with tags in the first, the EXIF and the GPS directory."""
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    tags[0x0112] = orientation
    tags.get_ifd(0x8769)[0x9003] = "2020:01:02 03:04:05"
    tags.get_ifd(0x8825)[1] = "N"
    return tags.tobytes()


def png(samples: np.ndarray, *, kind: int, interlaced: bool = False, key: bytes = b"") -> bytes:
    """A 16-bit PNG without filters, written from its specification alone."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    def rows(part: np.ndarray) -> bytes:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in part if row.size)

    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlaced)
    adam7 = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2)]
    adam7.append((1, 2, 0, 1))
    passes = [samples[a::b, c::d] for a, b, c, d in adam7] if interlaced else [samples]
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"tRNS", key) if key else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(map(rows, passes))))
        + chunk(b"IEND", b"")
    )


def decode_png(data: bytes) -> np.ndarray:
    """Samples of a 16-bit PNG, the filter undone byte by byte as its specification says."""
    chunks, at = {}, 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert zlib.crc32(name + body) == struct.unpack_from(">I", data, at + 8 + length)[0]
        chunks[name] = chunks.get(name, b"") + body
        at += 12 + length
    width, height, depth, kind = struct.unpack_from(">IIBB", chunks[b"IHDR"])
    assert depth == 16
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[kind]
    step, stride = 2 * channels, 2 * channels * width
    raw = zlib.decompress(chunks[b"IDAT"])
    above, out = [0] * stride, bytearray()
    for y in range(height):
        row = list(raw[y * (stride + 1) : (y + 1) * (stride + 1)])
        assert row.pop(0) == 4  # Paeth
        for x in range(stride):
            a, b, c = (row[x - step], above[x], above[x - step]) if x >= step else (0, above[x], 0)
            p = a + b - c
            row[x] = (row[x] + min((a, b, c), key=lambda v: abs(p - v))) % 256
        out += bytes(row)
        above = row
    return np.frombuffer(out, ">u2").reshape(height, width, channels).astype(np.uint16)


# -- odd formats -----------------------------------------------------------------------------------

GRAY, RGB, RGBA = noise(H, W), noise(H, W, 3), noise(H, W, 4)
LA, BITS = noise(H, W, 2), noise(H, W) > 127
PALETTE = Image.fromarray(RGB).quantize(16)
INDEX, COLORS = np.array(PALETTE), np.array(PALETTE.convert("RGB"))
OPACITY = np.array([0, 90] + [255] * 14, np.uint8)  # of the palette's entries
GRAY_KEY, RGB_KEY = int(GRAY[0, 0]), tuple(int(v) for v in RGB[0, 0])
LOSSLESS = {"lossless": True, "exact": True}

# format and name: source, options of its encoder, pixels and alpha to be read
ODD: dict[str, tuple[Any, dict[str, Any], np.ndarray, np.ndarray | None]] = {
    "PNG 1 bit": (BITS, {}, BITS * 255, None),
    "PNG gray": (GRAY, {}, GRAY, None),
    "PNG gray key": (GRAY, {"transparency": GRAY_KEY}, GRAY, 255 * (GRAY != GRAY_KEY)),
    "PNG gray alpha": (LA, {}, LA[:, :, 0], LA[:, :, 1]),
    "PNG palette": (PALETTE, {}, COLORS, None),
    "PNG palette alpha": (PALETTE, {"transparency": bytes(OPACITY)}, COLORS, OPACITY[INDEX]),
    "PNG rgb": (RGB, {}, RGB, None),
    "PNG rgb key": (RGB, {"transparency": RGB_KEY}, RGB, 255 * (RGB != RGB_KEY).any(2)),
    "PNG rgba": (RGBA, {}, RGBA[:, :, :3], RGBA[:, :, 3]),
    "WEBP rgb": (RGB, LOSSLESS, RGB, None),
    "WEBP rgba": (RGBA, LOSSLESS, RGBA[:, :, :3], RGBA[:, :, 3]),
    "BMP 1 bit": (BITS, {}, BITS * 255, None),
    "BMP gray": (GRAY, {}, GRAY, None),
    "BMP palette": (PALETTE, {}, COLORS, None),
    "BMP rgb": (RGB, {}, RGB, None),
    "GIF gray": (GRAY, {}, np.dstack([GRAY] * 3), None),
    "GIF palette": (PALETTE, {}, COLORS, None),
    "GIF palette key": (PALETTE, {"transparency": 3}, COLORS, 255 * (INDEX != 3)),
    "TIFF 1 bit fax": (BITS, {"compression": "group4"}, BITS * 255, None),
    "TIFF gray lzw": (GRAY, {"compression": "tiff_lzw"}, GRAY, None),
    "TIFF gray alpha": (LA, {}, LA[:, :, 0], LA[:, :, 1]),
    "TIFF palette": (PALETTE, {}, COLORS, None),
    "TIFF rgb": (RGB, {}, RGB, None),
    "TIFF rgba": (RGBA, {}, RGBA[:, :, :3], RGBA[:, :, 3]),
}


@pytest.mark.parametrize("name", ODD)
def test_formats_of_8_bits(name: str) -> None:
    source, options, pixels, alpha = ODD[name]
    image = source if isinstance(source, Image.Image) else Image.fromarray(source)
    picture = read_image(encoded(image, name.split()[0], **options))
    assert picture.bits == 8
    assert (picture.height, picture.width, picture.channels) == (H, W, 1 if pixels.ndim == 2 else 3)
    shown = np.full((H, W), True) if alpha is None else alpha > 0  # GIF drops colors it hides
    np.testing.assert_array_equal(picture.pixels.squeeze()[shown], pixels[shown])
    assert (picture.alpha is None) == (alpha is None)
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels, kind", [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_png_of_16_bits(channels: int, kind: int, interlaced: bool) -> None:
    samples = noise(H, W, channels, bits=16)
    picture = read_image(png(samples, kind=kind, interlaced=interlaced))
    colors = 3 if channels > 2 else 1
    np.testing.assert_array_equal(picture.pixels, samples[:, :, :colors])
    assert (picture.alpha is not None) == (channels in (2, 4))
    if picture.alpha is not None:
        np.testing.assert_array_equal(picture.alpha, samples[:, :, -1])


@pytest.mark.parametrize("channels, kind", [(1, 0), (3, 2)])
def test_png_of_16_bits_with_a_transparent_color(channels: int, kind: int) -> None:
    samples = noise(H, W, channels, bits=16)
    samples[1, 1] = samples[0, 0] ^ 1  # differs in the low byte only, so stays opaque
    picture = read_image(png(samples, kind=kind, key=samples[0, 0].astype(">u2").tobytes()))
    np.testing.assert_array_equal(picture.pixels, samples)
    assert picture.alpha is not None
    np.testing.assert_array_equal(np.argwhere(picture.alpha == 0), [[0, 0]])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "deflate", "predictor": 2},
        {"compression": "deflate", "rowsperstrip": 5, "byteorder": ">"},
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
    ],
    ids=str,
)
def test_tiff_of_16_bits(options: dict[str, Any]) -> None:
    samples = noise(H, W, 3, bits=16)
    buffer = io.BytesIO()
    stored = samples.transpose(2, 0, 1) if "planarconfig" in options else samples
    tifffile.imwrite(buffer, stored, photometric="rgb", **options)
    np.testing.assert_array_equal(read_image(buffer.getvalue()).pixels, samples)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_gray_tiff_of_16_bits(byteorder: str, photometric: str) -> None:
    gray = noise(H, W, bits=16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, gray, photometric=photometric, byteorder=byteorder)
    if photometric == "miniswhite" and byteorder == ">":
        with pytest.raises(DataError):  # Pillow does not know this one
            read_image(buffer.getvalue())
        return
    expected = gray if photometric == "minisblack" else 65535 - gray
    np.testing.assert_array_equal(read_image(buffer.getvalue()).pixels[:, :, 0], expected)


@pytest.mark.parametrize("kind", ["unassalpha", "assocalpha", "unspecified"])
def test_tiff_of_16_bits_with_alpha(kind: str) -> None:
    colors, alpha = noise(H, W, 3, bits=16), noise(H, W, bits=16) | 0x8000
    stored = colors * (alpha[:, :, None] / 65535) + 0.5 if kind == "assocalpha" else colors
    samples = np.concatenate([stored.astype(np.uint16), alpha[:, :, None]], axis=2)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric="rgb", extrasamples=[kind])
    picture = read_image(buffer.getvalue())
    np.testing.assert_allclose(picture.pixels.astype(int), colors.astype(int), atol=1)
    if kind == "unspecified":
        assert picture.alpha is None
    else:
        np.testing.assert_array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_netpbm_keeps_its_bits(channels: int, bits: int) -> None:
    samples = noise(H, W, channels, bits=bits)
    kind = {1: b"P5", 3: b"P6"}[channels]
    head = kind + b"\n# made by hand\n%d %d\n%d\n" % (W, H, 2**bits - 1)
    read = read_image(head + samples.astype(f">u{bits // 8}").tobytes())
    assert read.bits == bits
    np.testing.assert_array_equal(read.pixels, samples)
    with pytest.raises(DataError, match="cut off or damaged"):
        read_image(head + samples.astype(f">u{bits // 8}").tobytes()[:-1])


def test_cmyk_becomes_rgb_and_its_profile_goes() -> None:
    inks = Image.new("CMYK", (4, 3), (0, 255, 255, 0))  # magenta and yellow: red
    fake_profile = SRGB[:16] + b"CMYK" + SRGB[20:]
    for profile in (b"", fake_profile):
        picture = read_image(encoded(inks, "TIFF", icc_profile=profile))
        assert picture.pixels[0, 0].tolist() == [255, 0, 0]
        assert picture.icc is None


def test_profile_is_kept_only_where_it_fits() -> None:
    assert read_image(encoded(Image.fromarray(RGB), "PNG", icc_profile=SRGB)).icc == SRGB
    assert read_image(encoded(Image.fromarray(GRAY), "JPEG", icc_profile=SRGB)).icc is None


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_first_frame_says_that_there_are_more(format: str, count: int) -> None:
    frames = [Image.fromarray(noise(H, W, 3, seed=n)) for n in range(count)]
    more = {"save_all": True, "append_images": frames[1:]} if count > 1 else {}
    assert read_image(encoded(frames[0], format, **more)).is_first is (count > 1)


def test_animation_gives_its_first_frame() -> None:
    frames = [Image.fromarray(np.full((5, 5), v, np.uint8)) for v in (10, 200, 90)]
    for format in ("GIF", "PNG", "WEBP"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:], **options)
        assert np.unique(read_image(data).pixels).tolist() == [10]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_rotation_is_applied_as_pillow_does_and_then_forgotten(
    format: str, orientation: int
) -> None:
    options: dict[str, Any] = {"lossless": True} if format == "WEBP" else {}
    data = encoded(Image.fromarray(RGB), format, exif=exif(orientation), **options)
    picture = read_image(data)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(picture.pixels, np.array(upright))
    header = probe_image(data)
    assert (header.height, header.width) == (picture.height, picture.width)
    tags = Image.Exif()
    tags.load(picture.exif or b"")
    assert tags.get(0x0112, 1) == 1
    assert tags[0x010F] == "Maker"
    assert tags.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"


def test_rotation_of_16_bit_tiff() -> None:
    samples = noise(H, W, 3, bits=16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read_image(buffer.getvalue()).pixels, np.rot90(samples, -1))


@pytest.mark.parametrize(
    "broken", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0junk" * 9]
)
def test_malformed_exif_does_not_spoil_the_picture(broken: bytes, tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RGB), "PNG", exif=broken)
    picture = read_image(data)
    np.testing.assert_array_equal(picture.pixels, RGB)
    for name in ("a.png", "a.tif", "a.webp"):
        write_image(tmp_path / name, picture)
        np.testing.assert_array_equal(read_image(tmp_path / name).pixels, RGB)


# -- hostile files ---------------------------------------------------------------------------------


def header_only_png(width: int, height: int) -> bytes:
    """A PNG of a size without pixels: to be refused before the attempt to decode it."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + body))
    idat = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + body + crc + idat


def text_bomb() -> bytes:
    info = PngInfo()
    info.add_text("Comment", "x" * 5_000_000, zip=True)
    return encoded(Image.fromarray(RGB), "PNG", pnginfo=info)


JPEG = encoded(Image.fromarray(RGB), "JPEG")
PNG = encoded(Image.fromarray(RGB), "PNG")


@pytest.mark.parametrize(
    "data, reason",
    [
        pytest.param(b"", "empty (0 bytes)", id="zero bytes"),
        pytest.param(b"hello, world\n" * 40, "not a PNG, JPEG,", id="text"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "not a PNG, JPEG,", id="a program"),
        pytest.param(JPEG[: len(JPEG) // 2], "cut off or damaged", id="half a JPEG"),
        pytest.param(PNG[: len(PNG) // 2], "cut off or damaged", id="half a PNG"),
        pytest.param(PNG[:60] + b"\xff" + PNG[61:], "cut off or damaged", id="flipped byte"),
        pytest.param(text_bomb(), "cut off or damaged", id="text bomb"),
        pytest.param(header_only_png(9000, 9000), "9000 x 9000 pixels, the limit", id="81 MPixel"),
        pytest.param(header_only_png(11000, 11000), "11000 x 11000 pixels", id="121 MPixel"),
        pytest.param(header_only_png(14000, 14000), "the limit is 40,000,000", id="196 MPixel"),
        pytest.param(
            encoded(Image.fromarray(GRAY.astype(np.float32)), "TIFF"), "32 bits", id="float TIFF"
        ),
    ],
)
def test_unusable_files_are_named_with_a_reason(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "photo of a ünïcorn.png"
    path.write_bytes(data)
    for source in (path, data, io.BytesIO(data)):
        with pytest.raises(DataError) as caught:
            read_image(source, name=None if source is path else str(path))
        assert str(caught.value).startswith(f"{path}: ")
        if data or source is path:
            assert reason in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_image, probe_image])
def test_things_that_are_no_files_never_hang(read: Callable[[Path], Any], tmp_path: Path) -> None:
    folder, dangling, fifo = tmp_path / "x.png", tmp_path / "link.png", tmp_path / "pipe.png"
    folder.mkdir()
    dangling.symlink_to(tmp_path / "gone.png")
    os.mkfifo(fifo)
    reasons = {
        folder: "a folder, not an image",
        dangling: "a link to a file that is not there",
        fifo: "a pipe, socket or device, not an image",
        tmp_path / "no.png": "no such file",
        tmp_path / ("n" * 300): "cannot be opened (File name too long)",
        tmp_path / "nul\0.png": "cannot be opened (embedded null byte)",
    }
    for path, reason in reasons.items():
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value) == f"{path}: {reason}"


def test_limit_is_the_callers() -> None:
    assert read_image(PNG, max_pixels=H * W).width == W
    with pytest.raises(DataError, match=f"{W} x {H} pixels, the limit is {H * W - 1} in all"):
        read_image(PNG, max_pixels=H * W - 1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".16.png", ".16.tif"])
def test_damage_gives_a_picture_or_one_sentence(suffix: str, tmp_path: Path) -> None:
    path, rng = tmp_path / f"a{suffix}", np.random.default_rng(5)
    picture = Raster(RGB, exif=exif(), icc=SRGB).as_bits(16 if "16" in suffix else 8)
    write_image(path, picture)
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for where in rng.random(2):
            at = int(where * len(data))
            match rng.integers(4):
                case 0:
                    data[at] ^= 1 << rng.integers(8)
                case 1:
                    del data[at:]
                case 2:
                    data[at:at] = data[at : at + 20]
                case 3:
                    data[at:at] = rng.bytes(3)
        with contextlib.suppress(DataError):  # anything else fails the test
            assert read_image(bytes(data)).pixels.size


def test_threads_decode_silently_and_restore_the_filters() -> None:
    """A JPEG whose EXIF has a wrong length makes Pillow warn."""
    filters = list(warnings.filters)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                with pytest.raises(DataError):
                    read_image(header_only_png(9500, 9500))  # above Pillow's warning
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert warnings.filters == filters


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".webp", ".jpg"])
def test_what_is_written_is_read_back(
    suffix: str, channels: int, with_alpha: bool, bits: int, tmp_path: Path
) -> None:
    picture = Raster(
        pixels=noise(H, W, channels, bits=bits),
        alpha=noise(H, W, bits=bits, seed=1) if with_alpha else None,
        exif=exif(),
        icc=SRGB if channels == 3 else None,
    )
    path = tmp_path / f"sub dir ü{suffix}"
    if (suffix in (".webp", ".jpg") and bits == 16) or (suffix == ".jpg" and with_alpha):
        with pytest.raises(OutputError, match=r"write PNG"):
            write_image(path, picture)
        assert not list(tmp_path.iterdir())
        return
    write_image(path, picture)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    again = read_image(path)
    if suffix != ".jpg":
        expected = picture.as_channels(again.channels)  # WebP and deep TIFF turn gray into RGB
        np.testing.assert_array_equal(again.pixels, expected.pixels)
    assert again.bits == bits
    assert again.icc == picture.icc
    assert (again.alpha is None) == (picture.alpha is None)
    if again.alpha is not None:
        np.testing.assert_array_equal(again.alpha, picture.alpha)
    tags = Image.Exif()
    tags.load(again.exif or b"")
    assert tags[0x010F] == "Maker"
    assert tags.get_ifd(0x8769)[0x9003] == "2020:01:02 03:04:05"
    assert tags.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits_against_a_decoder_written_out(channels: int, tmp_path: Path) -> None:
    samples = np.cumsum(noise(7, 9, channels, bits=16) >> 9, axis=1).astype(np.uint16)
    colors = 3 if channels > 2 else 1
    alpha = samples[:, :, -1].copy() if channels in (2, 4) else None
    write_image(tmp_path / "a.png", Raster(samples[:, :, :colors], alpha))
    np.testing.assert_array_equal(decode_png((tmp_path / "a.png").read_bytes()), samples)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_against_tifffile(channels: int, bits: int, byteorder: str, tmp_path: Path) -> None:
    """EXIF of a big-endian camera makes a big-endian file, in several strips."""
    pixels = noise(300, 1000, channels, bits=bits)
    tags = Image.Exif()
    tags.endian = byteorder
    tags[0x010F] = "Maker"
    write_image(tmp_path / "a.tif", Raster(pixels, exif=tags.tobytes()))
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.byteorder == byteorder
        assert tiff.pages.first.tags["Make"].value == "Maker"
        raw = tiff.pages.first.dataoffsets
        assert len(raw) > 1
    pillow = np.atleast_3d(np.array(Image.open(tmp_path / "a.tif")))
    expected = pixels if channels == 1 else pixels >> (bits - 8)
    np.testing.assert_array_equal(pillow, expected)  # Pillow shows the high byte of deep color
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, pixels)


def test_text_chunks_of_png(tmp_path: Path) -> None:
    text = {"Software": "aigc", "Comment": "超解像"}
    for bits in (8, 16):
        write_image(tmp_path / "a.png", Raster(RGB).as_bits(bits), text=text)
        with Image.open(tmp_path / "a.png") as image:
            assert image.text == text  # type: ignore[attr-defined]


def test_endings_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"images end in \.png, .*, not '\.gif'"):
        write_image(tmp_path / "a.gif", Raster(RGB))


def test_unwritable_places_leave_nothing_behind(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    (tmp_path / "folder.png").mkdir()
    for path, reason in [
        (tmp_path / "gone" / "a.png", "no such file or directory"),
        (file / "a.png", "not a directory"),
        (tmp_path / "folder.png", "is a directory"),
    ]:
        with pytest.raises(OutputError) as caught:
            write_image(path, Raster(RGB))
        assert str(caught.value) == f"cannot write {path}: {reason}"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.png"]
    assert file.read_text() == "kept"


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files fails in the middle of a write, as a full disk does."""
    path = tmp_path / "a.png"
    write_image(path, Raster(GRAY[:, :, None]))
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(
            DiskFullError, match=r"no space left to write .*a\.png \([\d,]+ bytes\)"
        ):
            write_image(path, Raster(noise(200, 200, 3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_errors_of_a_full_disk_are_recognized(number: int) -> None:
    from aigc_cli.media.files import write_error

    error = write_error(OSError(number, os.strerror(number)), Path("a.png"), 5)
    assert isinstance(error, DiskFullError)
    assert error.exit_code == 3


# -- images and tensors --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_level_survives_the_tensor(dtype: type[Any]) -> None:
    levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
    pixels = np.stack([levels, levels[::-1], levels], axis=1)[:, None, :]
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, len(levels), 1)
    assert tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (-1, 1)
    np.testing.assert_array_equal(from_tensor(tensor, dtype), pixels)


def test_from_tensor_clips_and_rounds_half_up() -> None:
    levels = torch.tensor([-3.0, -0.4, 0.5, 1.49, 254.5, 255.4, 300.0])
    out = from_tensor((levels / 127.5 - 1).double().reshape(1, 1, -1))
    assert out[0, :, 0].tolist() == [0, 0, 1, 1, 255, 255, 255]


def test_channels_and_bits_convert_both_ways() -> None:
    gray = Raster(GRAY[:, :, None], alpha=GRAY, icc=b"profile", exif=b"Exif\0\0")
    rgb = gray.as_channels(3)
    assert (rgb.icc, rgb.exif) == (None, b"Exif\0\0")
    np.testing.assert_array_equal(rgb.as_channels(1).pixels, gray.pixels)
    np.testing.assert_array_equal(rgb.as_bits(16).as_bits(8).pixels, rgb.pixels)
    assert rgb.as_bits(16).pixels.max() == 257 * int(rgb.pixels.max())
    white = Raster(np.full((1, 1, 3), 255, np.uint8)).as_bits(16)
    assert white.pixels.max() == 65535


def test_grid_places_pictures_row_by_row() -> None:
    values = [10, 60, 110, 160, 210]
    pictures = [Raster(np.full((8, 12, 1 + 2 * (v % 20 == 0)), v, np.uint8)) for v in values]
    sheet = tile_grid(pictures, 2)
    assert sheet.pixels.shape == (3 * 12 + 4, 2 * 16 + 4, 3)
    centers = sheet.pixels[8::12, 10::16, 0]
    assert centers.tolist() == [[10, 60], [110, 160], [210, 255]]
    labeled = tile_grid(pictures, 2, labels=["bicubic 28.4 dB", "b", "c", "d", "e"])
    assert labeled.height > sheet.height
    assert labeled.pixels.min() < 10


def test_grid_shows_transparency_as_white() -> None:
    hidden = Raster(np.zeros((6, 6, 3), np.uint8), alpha=np.zeros((6, 6), np.uint8))
    assert (tile_grid([hidden], 1).pixels == 255).all()
