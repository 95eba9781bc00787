"""TIFF files of 8 or 16 bits with alpha, EXIF and a color profile, which Pillow and tifffile each
write only in part. TIFF 6.0, 1992, with Technical Note 2 (deflate) and Supplement 1 (predictor)."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

DESCRIPTIVE_TAGS = {
    *(270, 271, 272, 274),  # description, maker, model, orientation
    *(282, 283, 296),  # pixels for each inch or centimetre
    *(305, 306, 315, 33432),  # software, date, artist, copyright
    *(0x8769, 0x8825),  # the EXIF and the GPS directory
}
"""Tags that speak of the photograph, not of how its pixels are stored."""

_BYTE, _SHORT, _LONG, _UNDEFINED = 1, 3, 4, 7
_STRIP_BYTES = 1 << 18


def tiff_bytes(
    samples: NDArray[Any],
    *,
    exif: bytes | None = None,
    icc: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """samples (H, W, C), uint8 or uint16, C = 1 gray, 2 gray alpha, 3 RGB or 4 RGBA.

    EXIF is itself a small TIFF. It becomes the beginning of the file, so every offset inside it
    stays true; a new directory behind it lists its descriptive tags together with the pixels.
    """
    H, W, C = samples.shape
    bits = 8 * samples.dtype.itemsize
    order, tags = _descriptive(exif)
    out = bytearray(exif if exif and tags else struct.pack("<2sHI", b"II", 42, 0))

    rows = max(1, _STRIP_BYTES // (W * C * bits // 8))
    offsets, lengths = [], []
    for top in range(0, H, rows):
        strip = samples[top : top + rows]
        strip = np.concatenate([strip[:, :1], np.diff(strip, axis=1)], axis=1)  # predictor 2
        data = zlib.compress(strip.astype(f"{order}u{bits // 8}").tobytes())
        offsets.append(_append(out, data))
        lengths.append(len(data))

    numbers = {
        256: (_LONG, [W]),
        257: (_LONG, [H]),
        258: (_SHORT, [bits] * C),
        259: (_SHORT, [8]),  # deflate
        262: (_SHORT, [2 if C >= 3 else 1]),  # RGB, or black is zero
        273: (_LONG, offsets),
        277: (_SHORT, [C]),
        278: (_LONG, [rows]),
        279: (_LONG, lengths),
        284: (_SHORT, [1]),  # samples of a pixel lie together
        317: (_SHORT, [2]),  # differences along the row
        339: (_SHORT, [1] * C),  # unsigned
    }
    if C in (2, 4):
        numbers[338] = (_SHORT, [2])  # the last is alpha, and colors are not multiplied by it
    for tag, (kind, values) in numbers.items():
        data = struct.pack(f"{order}{len(values)}{'H' if kind == _SHORT else 'I'}", *values)
        tags[tag] = _entry(out, order, tag, kind, len(values), data)
    if icc:
        tags[34675] = _entry(out, order, 34675, _UNDEFINED, len(icc), icc)

    if xmp:
        tags[700] = _entry(out, order, 700, _BYTE, len(xmp), xmp)

    entries = b"".join(tags[tag] for tag in sorted(tags))
    directory = _append(out, struct.pack(order + "H", len(tags)) + entries + bytes(4))
    struct.pack_into(order + "I", out, 4, directory)
    return bytes(out)


def _descriptive(exif: bytes | None) -> tuple[str, dict[int, bytes]]:
    """Byte order and the raw descriptive entries of the first directory, none if malformed."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4]) if exif else None
    if exif is None or order is None:
        return "<", {}
    try:
        start = struct.unpack_from(order + "I", exif, 4)[0] + 2
        count = struct.unpack_from(order + "H", exif, start - 2)[0]
        entries = [exif[start + 12 * i : start + 12 * i + 12] for i in range(count)]
        tags = {struct.unpack_from(order + "H", entry)[0]: entry for entry in entries}
    except struct.error:
        return "<", {}
    tags = {t: e for t, e in tags.items() if t in DESCRIPTIVE_TAGS and len(e) == 12}
    return (order, tags) if tags else ("<", {})


def _entry(out: bytearray, order: str, tag: int, kind: int, count: int, data: bytes) -> bytes:
    """A directory entry; up to four bytes of data stay in it, more are appended to the file."""
    if len(data) > 4:
        data = struct.pack(order + "I", _append(out, data))
    return struct.pack(order + "HHI", tag, kind, count) + data.ljust(4, b"\0")


def _append(out: bytearray, data: bytes) -> int:
    """Offset of the data, which is even as TIFF asks."""
    out += bytes(len(out) % 2)
    out += data
    return len(out) - len(data)
