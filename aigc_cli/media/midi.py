"""MIDI files: notes out of bytes, and bytes of notes.

Files are treated as hostile: size, type and track lengths are checked before symusic parses them,
and whatever is wrong with a file becomes one sentence.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError

MAX_BYTES = 8_000_000
MAX_NOTES = 200_000
MAX_TRACKS = 1_000
DRUMS = 128
"""Number of the drum kit, behind the 128 programs of General MIDI."""
TICKS = 480
"""Of a quarter in the files that are written."""
MICROSECONDS = 60_000_000  # in a minute

Notes = NDArray[np.int64]
"""(N, 5): start and duration in ticks, pitch 0 to 127, program 0 to 128, velocity 1 to 127."""


@dataclass(frozen=True, eq=False)
class Midi:
    """What is learned of a file: its notes, and how they are to be counted and played."""

    ticks: int
    """Of a quarter."""
    notes: Notes
    tempo: float
    """Quarters a minute, on average up to the end of the last note."""
    meters: tuple[tuple[int, int], ...]
    """Time signatures as (numerator, denominator), each once; none where the file has none."""


def read_midi(data: bytes, name: str) -> Midi:
    """The notes of a file, sorted by start, program and pitch.

    Raises:
        DataError: no MIDI, too large, of type 2, damaged, without notes or tempo; names the file.
    """
    import symusic

    _check_chunks(data, name)
    try:
        score: Any = symusic.Score.from_midi(data)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{name}: is a damaged MIDI file: {str(error).split(chr(10))[0]}"
        ) from error
    return midi_of(score, name)


def midi_of(score: Any, name: str) -> Midi:
    """What is learned of a score that symusic has read. Raises as `read_midi`."""
    count = sum(len(track.notes) for track in score.tracks)
    if not count:
        raise DataError(f"{name}: has no notes")
    if count > MAX_NOTES:
        raise DataError(f"{name}: has {count:,} notes, and {MAX_NOTES:,} are read at most")
    notes: Notes = np.empty((count, 5), np.int64)
    place = 0
    for track in score.tracks:
        columns = track.notes.numpy()
        part = notes[place : place + len(track.notes)]
        for column, name_of in ((0, "time"), (1, "duration"), (2, "pitch"), (4, "velocity")):
            part[:, column] = columns[name_of]
        part[:, 3] = DRUMS if track.is_drum else track.program
        place += len(part)
    # one number to sort by is three times as fast as three
    notes = notes[np.argsort(notes[:, 0] << 16 | notes[:, 3] << 7 | notes[:, 2], kind="stable")]
    end = int((notes[:, 0] + notes[:, 1]).max())
    changes = [(int(change.time), int(change.mspq)) for change in score.tempos]
    meters = dict.fromkeys((int(m.numerator), int(m.denominator)) for m in score.time_signatures)
    return Midi(score.ticks_per_quarter, notes, mean_tempo(changes, end, name), tuple(meters))


def _check_chunks(data: bytes, name: str) -> None:
    """See that the bytes are a MIDI file whose parts have the lengths that they state."""
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: has {len(data):,} bytes, and {MAX_BYTES:,} are read at most")
    if data[:4] != b"MThd" or len(data) < 14:
        raise DataError(f"{name}: is no MIDI file")
    length, kind, tracks, ticks = struct.unpack(">IHHH", data[4:14])
    if kind > 1:
        raise DataError(f"{name}: is MIDI of type {kind}, patterns that are no one piece")
    if ticks == 0 or ticks & 0x8000:
        raise DataError(f"{name}: counts time by {ticks:#06x}, not in ticks of a quarter")
    if tracks > MAX_TRACKS:
        raise DataError(f"{name}: has {tracks:,} tracks, and {MAX_TRACKS:,} are read at most")
    place, found = 8 + length, 0
    while place + 8 <= len(data) and found < tracks:
        (size,) = struct.unpack(">I", data[place + 4 : place + 8])
        found += data[place : place + 4] == b"MTrk"
        place += 8 + size
    if found < tracks:
        raise DataError(f"{name}: is cut off: {tracks:,} tracks are announced, {found:,} are there")
    if place > len(data):
        raise DataError(f"{name}: is cut off: its last {place - len(data):,} bytes are missing")


def mean_tempo(changes: Sequence[tuple[int, int]], end: int, name: str) -> float:
    """Quarters a minute between 0 and `end` ticks; 120 where nothing is said."""
    if any(length <= 0 for _, length in changes):
        raise DataError(f"{name}: has a tempo of 0 microseconds a quarter")
    places = [(0, 500_000), *((time, length) for time, length in changes if time < max(end, 1))]
    stops = [*(time for time, _ in places[1:]), end]
    spent = sum(
        (max(stop - time, 0)) * length for (time, length), stop in zip(places, stops, strict=True)
    )
    return MICROSECONDS * end / spent if spent else MICROSECONDS / places[-1][1]


def midi_bytes(
    notes: Notes, tempo: float, meter: tuple[int, int], *, ticks: int = TICKS, text: str = ""
) -> bytes:
    """A file of type 1: a track of tempo, meter and `text` (a text event), one for each program."""
    numerator, denominator = meter
    head = [
        (0, 0, _meta(0x01, text.encode())) if text else None,
        (0, 0, _meta(0x51, round(MICROSECONDS / tempo).to_bytes(3, "big"))),
        (0, 0, _meta(0x58, bytes([numerator, denominator.bit_length() - 1, 24, 8]))),
    ]
    programs = sorted({int(program) for program in notes[:, 3]})
    tracks = [_track([event for event in head if event])]
    free = [channel for channel in range(16) if channel != 9]
    for number, program in enumerate(programs):
        channel = 9 if program == DRUMS else free[number % len(free)]
        events = [] if program == DRUMS else [(0, 0, bytes([0xC0 | channel, program]))]
        for start, duration, pitch, _, velocity in notes[notes[:, 3] == program].tolist():
            events.append((start, 2, bytes([0x90 | channel, pitch, velocity])))
            events.append((start + duration, 1, bytes([0x80 | channel, pitch, 0])))
        tracks.append(_track(events))
    header = b"MThd" + struct.pack(">IHHH", 6, 1, len(tracks), ticks)
    return header + b"".join(tracks)


def _track(events: list[tuple[int, int, bytes]]) -> bytes:
    """A chunk of events (tick, rank at one tick, bytes); a note ends before the next begins."""
    body, before = bytearray(), 0
    for time, _, event in sorted(events, key=lambda event: event[:2]):
        body += _length(time - before) + event
        before = time
    body += _length(0) + _meta(0x2F, b"")
    return b"MTrk" + struct.pack(">I", len(body)) + bytes(body)


def _meta(kind: int, data: bytes) -> bytes:
    return bytes([0xFF, kind]) + _length(len(data)) + data


def _length(value: int) -> bytes:
    """A number in groups of 7 bits, the highest first."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))
