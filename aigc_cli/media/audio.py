"""Recordings: samples out of files of sound, WAV files of samples, and pictures of both.

Files are treated as hostile: what a header declares is compared with what is there before room is
made for it, and whatever is wrong with a file becomes one sentence.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError
from aigc_cli.media.image import Raster
from aigc_cli.media.synth import Wave, wav_bytes

ENDINGS = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".aif", ".aiff")
MAX_BYTES = 512_000_000
MAX_VALUES = 200_000_000  # frames times channels
RATES = (1_000, 384_000)  # Hz
STREAMED = 0xFFFF_FFFF  # length of what was written before its end was known

WINDOW, BINS, WIDEST = 512, 256, 1_600  # samples; rows; columns of a spectrogram
RANGE = 80.0  # dB


@dataclass(frozen=True, eq=False)
class Sound:
    """samples (T,), float32 in [-1, 1], one channel."""

    samples: Wave
    sample_rate: int
    """Hz."""

    @property
    def facts(self) -> dict[str, object]:
        """For people and samples.json."""
        return {
            "seconds": round(len(self.samples) / self.sample_rate, 3),
            "sample_rate": self.sample_rate,
            "peak": round(float(np.abs(self.samples).max(initial=0)), 4),
        }

    def at(self, sample_rate: int) -> Sound:
        """At another rate, by a polyphase filter; clipped to [-1, 1]."""
        if sample_rate == self.sample_rate or not len(self.samples):
            return Sound(self.samples, sample_rate)
        from scipy.signal import resample_poly

        shared = gcd(sample_rate, self.sample_rate)
        samples = resample_poly(
            self.samples.astype(np.float64), sample_rate // shared, self.sample_rate // shared
        )
        return Sound(np.asarray(samples.clip(-1, 1), np.float32), sample_rate)


def read_audio(data: bytes, name: str) -> Sound:
    """The mean of the channels of a file, at its own rate.

    Raises:
        DataError: no audio, too large, cut off, empty, or with samples that are no numbers; names
            the file.
    """
    import soundfile

    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: has over {MAX_BYTES:,} bytes, which is the most that is read")
    _check_chunks(data, name)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, frames, channels = int(file.samplerate), int(file.frames), int(file.channels)
            if not RATES[0] <= rate <= RATES[1]:
                raise DataError(f"{name}: has {rate:,} Hz, and {RATES[0]:,} to {RATES[1]:,} fit")
            if frames * channels > MAX_VALUES:
                raise DataError(
                    f"{name}: declares {frames:,} samples of {channels} channels, and "
                    f"{MAX_VALUES:,} values are read at most"
                )
            values = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        why = str(error).rpartition(": ")[2].rstrip(".")  # without the name of the object
        raise DataError(f"{name}: is no audio file that can be read: {why}") from error
    if not frames:
        raise DataError(f"{name}: has no samples")
    if len(values) < frames:
        raise DataError(
            f"{name}: is cut off: {frames:,} samples are declared, {len(values):,} read"
        )
    samples = values.mean(1, dtype=np.float32)
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise DataError(f"{name}: sample {bad:,} is no number (NaN or infinite)")
    return Sound(samples.clip(-1, 1), rate)


def _check_chunks(data: bytes, name: str) -> None:
    """See that the samples of a WAV file are as many as it declares; libsndfile reads what there is
    without a word.
    """
    if data[:4] not in (b"RIFF", b"RF64") or data[8:12] != b"WAVE":
        return
    place, long = 12, None
    while place + 8 <= len(data):
        kind, (size,) = data[place : place + 4], struct.unpack("<I", data[place + 4 : place + 8])
        if kind == b"ds64" and place + 24 <= len(data):
            (long,) = struct.unpack("<Q", data[place + 16 : place + 24])
        if kind == b"data":
            size = long if long is not None and size == STREAMED else size
            left = len(data) - place - 8
            if size > left and size != STREAMED:
                raise DataError(
                    f"{name}: is cut off: {size:,} bytes of samples are declared, {left:,} there"
                )
            return
        place += 8 + size + size % 2
    raise DataError(f"{name}: is a WAV file without samples, or cut off")


def sound_bytes(sound: Sound, record: Mapping[str, Any] | None = None) -> bytes:
    """A WAV file of 16 bits; the record of its making is the comment (LIST INFO ICMT)."""
    data = wav_bytes(sound.samples, sample_rate=sound.sample_rate)
    if record is None:
        return data
    text = json.dumps({"aigc": dict(record)}, default=str).encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    body = b"INFOICMT" + struct.pack("<I", len(text)) + text
    data += b"LIST" + struct.pack("<I", len(body)) + body
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def power(samples: Wave, hop: int, window: int = WINDOW) -> NDArray[np.float32]:
    """(frames, window / 2 + 1): the squared spectrum of Hann windows, one every `hop` samples."""
    samples = np.pad(samples, (window // 2, window // 2))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    shape = np.hanning(window + 1)[:-1].astype(np.float32)
    spectrum = np.fft.rfft(frames * shape, axis=1)
    return np.asarray(np.square(np.abs(spectrum)), np.float32)


# Black, violet, red, yellow, white: dark to light, also in gray.
_COLORS = np.array([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]])


def spectrogram(sound: Sound) -> Raster:
    """Time to the right, 0 Hz to half the rate upwards, RANGE dB below the loudest from dark on."""
    hop = max(WINDOW // 8, -(-len(sound.samples) // WIDEST))
    levels = 10 * np.log10(power(sound.samples, hop)[:, 1:] + 1e-12).T[::-1]
    share = ((levels - levels.max() + RANGE) / RANGE).clip(0, 1) * (len(_COLORS) - 1)
    low = np.minimum(share.astype(int), len(_COLORS) - 2)
    part = (share - low)[..., None]
    pixels = _COLORS[low] * (1 - part) + _COLORS[low + 1] * part
    return Raster(np.ascontiguousarray(np.rint(pixels), np.uint8))
