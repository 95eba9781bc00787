"""How an image was made, inside its file: an XMP packet (ISO 16684-1), which PNG, JPEG, WebP and
TIFF all can hold.

Beside our own property, which is JSON, stands what other programs look for: the software, and the
IPTC's digital source type, by which an image says that a model made it or changed it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

from aigc_cli.media._decode import opened, xmp_of

Provenance = Literal["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
"""Made by a model, or changed by one: https://cv.iptc.org/newscodes/digitalsourcetype."""

MOST = 60_000  # bytes; a JPEG has room for 65,502
_SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_OURS = re.compile(rb'aigc:record="([^"]*)"')


def packet(record: Mapping[str, Any], provenance: Provenance | None = None) -> bytes:
    """The XMP packet of a record, a small dict of plain values.

    Raises:
        ValueError: the record is no JSON, or has more than MOST bytes.
    """
    text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    label = f' ext:DigitalSourceType="{_SOURCE}{provenance}"' if provenance else ""
    made = (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:ext="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:aigc="urn:aigc:1"'
        f' xmp:CreatorTool="aigc"{label} aigc:record="{html.escape(text)}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    ).encode()
    if len(made) > MOST:
        raise ValueError(f"the record has {len(made):,} bytes, the limit is {MOST:,}")
    return made


def read_record(source: Path | bytes | BinaryIO) -> dict[str, Any] | None:
    """The record inside an image file; None where it has none. No pixels are decoded.

    Raises:
        DataError: it is no image.
    """
    with opened(source, None, 1 << 40) as (_, image):
        found = _OURS.search(xmp_of(image)[: 1 << 20])
    if found is None:
        return None
    try:
        record = json.loads(html.unescape(found[1].decode()))
    except (ValueError, RecursionError):  # another program has changed it
        return None
    return record if isinstance(record, dict) else None
