"""The record of its making travels in each image file that can hold it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from aigc_cli.media.image import Raster, probe_image, read_image, write_image
from aigc_cli.media.record import packet, read_record

RECORD = {"model": "edsr", "seed": 3, "options": {"tile": 64}, "says": "ünïcode <&\"'> \n"}


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff"])
def test_a_record_is_read_back(tmp_path: Path, suffix: str, bits: int) -> None:
    if bits == 16 and suffix in (".jpg", ".webp"):
        pytest.skip("has 8 bits")
    pixels = np.random.default_rng(0).integers(0, 2**bits, (9, 7, 3)).astype(f"u{bits // 8}")
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    path = tmp_path / f"a{suffix}"
    xmp = packet(RECORD, "trainedAlgorithmicMedia")
    write_image(path, Raster(pixels, exif=exif.tobytes()), xmp=xmp)
    assert read_record(path) == RECORD
    assert b"digitalsourcetype/trainedAlgorithmicMedia" in path.read_bytes()
    read = read_image(path)
    assert read.exif is not None
    if suffix != ".jpg":
        np.testing.assert_array_equal(read.pixels, pixels)


def test_files_without_a_record_have_none(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", Raster(np.zeros((2, 2, 3), np.uint8)))
    assert read_record(tmp_path / "a.png") is None
    broken = packet({"a": 1}).replace(b"{", b"[")
    write_image(tmp_path / "b.png", Raster(np.zeros((2, 2, 3), np.uint8)), xmp=broken)
    assert read_record(tmp_path / "b.png") is None


def test_a_record_is_small() -> None:
    with pytest.raises(ValueError, match="the limit is 60,000"):
        packet({"a": "b" * 60_000})


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("form", ['tiff:Orientation="6"', "<tiff:Orientation>6</tiff:Orientation>"])
def test_orientation_in_xmp_is_as_in_exif(format: str, form: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    xmp = f"<x:xmpmeta><rdf:Description {form}></x:xmpmeta>".encode()
    buffer = io.BytesIO()
    if format == "PNG":
        path_info = PngInfo()
        path_info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        Image.fromarray(pixels).save(buffer, format, pnginfo=path_info)
    else:
        Image.fromarray(pixels).save(buffer, format, xmp=xmp)
    assert read_image(buffer.getvalue()).pixels.shape == (6, 4, 3)
    assert probe_image(buffer.getvalue()).width == 4
