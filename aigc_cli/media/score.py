"""Tunes in ABC, the notation of folk music: text, several tunes to a file.

The standard is https://abcnotation.com/wiki/abc:standard:v2.1; symusic plays it by abc2midi.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aigc_cli.errors import DataError
from aigc_cli.media.midi import Midi, midi_of

MAX_TUNE = 200_000  # bytes
_TUNE = re.compile(rb"^X:[ \t]*(\d*)", re.MULTILINE)


def is_abc(data: bytes) -> bool:
    """Whether this is a tune, as `tunes` cuts them."""
    return data.startswith(b"X:")


def tunes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The number of each tune of a file, and its text; what stands before the first is left out."""
    found = list(_TUNE.finditer(data))
    ends = [*(match.start() for match in found[1:]), len(data)]
    for match, end in zip(found, ends, strict=False):
        yield match[1].decode(), data[match.start() : end]


def read_abc(data: bytes, name: str) -> Midi:
    """The notes of a tune, as it is played, with its repeats and chords.

    Raises:
        DataError: too long, damaged, without notes or key; names the tune.
    """
    import symusic

    if len(data) > MAX_TUNE:
        raise DataError(f"{name}: has {len(data):,} bytes, and a tune has {MAX_TUNE:,} at most")
    try:
        score = symusic.Score.from_abc(data.decode("utf-8", "replace").replace("\0", ""))
    except (RuntimeError, ValueError, OverflowError) as error:
        raise DataError(f"{name}: is no tune in ABC that can be played") from error
    return midi_of(score, name)
