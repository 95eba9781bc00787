"""Sound of notes without any file of sounds: periodic waves with envelopes, and noise for drums.

Each program of General MIDI belongs to a group of eight with one timbre: a sum of harmonics, or
frequency modulation at a whole ratio (Chowning, 1973), which is periodic too and so is read from
one table. Harmonics above half the sample rate are left out.
"""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from aigc_cli.media.midi import DRUMS, Notes

SAMPLE_RATE = 44_100
A4 = 440.0  # Hz, pitch 69
PEAK = 0.9  # of full scale
TABLE = 4096  # samples of one period
RELEASE = 0.06  # seconds

Wave = NDArray[np.float32]


@dataclass(frozen=True)
class Timbre:
    """harmonics: their amplitudes; `fm`: ratio and index instead of them; decay: seconds until a
    sounding note has fallen to 1/e, 0 where it is held; attack in seconds.
    """

    harmonics: tuple[float, ...] = (1.0,)
    fm: tuple[int, float] | None = None
    decay: float = 0.0
    attack: float = 0.005


# One for each eight programs: pianos, chromatic percussion, organs, guitars, basses, strings,
# ensembles, brass, reeds, pipes, leads, pads, effects, ethnic, percussive, sounds.
TIMBRES = (
    Timbre((1, 0.5, 0.3, 0.18, 0.1, 0.06), decay=0.9),
    Timbre(fm=(3, 1.2), decay=0.6, attack=0.002),
    Timbre((1, 0.8, 0.4, 0.5, 0.1, 0.3), attack=0.01),
    Timbre((1, 0.7, 0.45, 0.3, 0.2, 0.12), decay=0.5, attack=0.003),
    Timbre((1, 0.6, 0.25, 0.1), decay=0.8),
    Timbre((1, 0.6, 0.5, 0.35, 0.25, 0.2, 0.12), attack=0.06),
    Timbre((1, 0.5, 0.4, 0.25, 0.15), attack=0.09),
    Timbre(fm=(1, 1.0), attack=0.03),
    Timbre((1, 0.1, 0.6, 0.08, 0.35, 0.05, 0.2), attack=0.03),
    Timbre((1, 0.15, 0.05), attack=0.04),
    Timbre((1, 0.5, 0.33, 0.25, 0.2, 0.16, 0.14), attack=0.01),
    Timbre((1, 0.4, 0.2, 0.1), attack=0.15),
    Timbre(fm=(2, 1.5), attack=0.1),
    Timbre((1, 0.6, 0.5, 0.3, 0.3), decay=0.4, attack=0.003),
    Timbre(fm=(5, 1.0), decay=0.25, attack=0.001),
    Timbre((1, 0.3), decay=0.4),
)


def frequency(pitch: int) -> float:
    """In Hz, equally tempered."""
    return float(A4 * 2 ** ((pitch - 69) / 12))


def render(notes: Notes, seconds_per_tick: float, *, sample_rate: int = SAMPLE_RATE) -> Wave:
    """Notes as in media/midi.py -> samples (T,) within PEAK, with the release of the last."""
    if not len(notes):
        return np.zeros(sample_rate // 10, np.float32)
    end = int((notes[:, 0] + notes[:, 1]).max()) * seconds_per_tick + 2 * RELEASE
    out = np.zeros(round(end * sample_rate) + 1, np.float32)
    for start, duration, pitch, program, velocity in notes.tolist():
        samples = max(round(duration * seconds_per_tick * sample_rate), 1)
        sound = _hit(pitch, sample_rate) if program == DRUMS else _tone(
            pitch, program // 8, samples, sample_rate
        )  # fmt: skip
        first = round(start * seconds_per_tick * sample_rate)
        place = out[first : first + len(sound)]
        place += sound[: len(place)] * np.float32(velocity / 127)
    peak = float(np.abs(out).max())
    return out * np.float32(PEAK / peak) if peak > 0 else out


@lru_cache(maxsize=512)
def _tone(pitch: int, group: int, samples: int, sample_rate: int) -> Wave:
    """A note that is held for so many samples, and its release."""
    timbre, hertz = TIMBRES[group], frequency(pitch)
    total = samples + round(RELEASE * sample_rate)
    phase = np.arange(total) * (hertz / sample_rate)  # periods; float64 keeps the pitch
    sound = _period(group, int(sample_rate / 2 / hertz))[(phase % 1 * TABLE).astype(np.int32)]
    time = np.arange(total, dtype=np.float32) / np.float32(sample_rate)
    envelope = np.minimum(time / np.float32(timbre.attack), 1)
    if timbre.decay:
        envelope *= np.exp(-time / np.float32(timbre.decay))
    envelope[samples:] *= np.linspace(1, 0, total - samples, dtype=np.float32)
    return sound * envelope


@lru_cache(maxsize=256)
def _period(group: int, highest: int) -> Wave:
    """One period of a timbre with harmonics up to number `highest`, its power that of a sine."""
    timbre = TIMBRES[group]
    angle = 2 * np.pi * np.arange(TABLE) / TABLE
    if timbre.fm is None:
        period = sum(
            a * np.sin(k * angle) for k, a in enumerate(timbre.harmonics, 1) if k <= max(highest, 1)
        )
    else:
        ratio, index = timbre.fm
        spectrum = np.fft.rfft(np.sin(angle + index * np.sin(ratio * angle)))
        spectrum[0] = 0
        spectrum[max(highest, 1) + 1 :] = 0
        period = np.fft.irfft(spectrum, TABLE)
    return np.asarray(period / np.sqrt(2 * np.mean(np.square(period))), np.float32)


@lru_cache(maxsize=128)
def _hit(pitch: int, sample_rate: int) -> Wave:
    """A drum of the General MIDI kit: falling sine for kicks and toms, noise for the others."""
    kick, snare, tom = (
        pitch in (35, 36),
        pitch in (37, 38, 39, 40),
        pitch in (41, 43, 45, 47, 48, 50),
    )
    long = pitch in (46, 49, 51, 52, 55, 57, 59)  # open cymbals
    decay = 0.12 if kick or tom else 0.08 if snare else 0.35 if long else 0.03
    time = np.arange(round(5 * decay * sample_rate)) / sample_rate
    noise = np.random.default_rng(pitch).uniform(-1, 1, len(time))
    if kick or tom:
        low = 50.0 if kick else 80 + 8 * (pitch - 41)
        sound = (
            np.sin(2 * np.pi * (low * time + 0.05 * low * (1 - np.exp(-time / 0.03))))
            + 0.05 * noise
        )
    elif snare:
        sound = 0.6 * noise + 0.4 * np.sin(2 * np.pi * 190 * time)
    else:
        sound = np.diff(noise, prepend=0) / 2  # without its low part
    return np.asarray(sound * np.exp(-time / decay), np.float32)


def wav_bytes(sound: Wave, *, sample_rate: int = SAMPLE_RATE) -> bytes:
    """A mono WAV file of 16 bits; samples in [-1, 1]."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(sound.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return data.getvalue()
