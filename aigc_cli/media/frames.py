"""Music as frames: which keys of a piano sound at each step, or which pitch each voice holds.

Frames are those of Boulanger-Lewandowski, Bengio and Vincent, 2012, https://arxiv.org/abs/1206.6392:
88 keys, each on or off at the instant of a frame. They do not say where a key is struck again, so
what sounds in neighboring frames is one note. Voices are the grid of four-part chorales.

Letters: T frames, P = 88 keys, V voices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from aigc_cli.errors import DataError
from aigc_cli.media.events import INSTRUMENTS, TEMPOS, Music, estimate_key, settle
from aigc_cli.media.midi import DRUMS, Midi

LOWEST, KEYS = 21, 88
"""Pitch of the first key of a piano, and how many there are."""
SILENCE = -1
"""What a voice holds that rests."""
VOICES = (9, 8, 7, 4)
"""Groups of programs that play soprano, alto, tenor and bass: flute, oboe, horn and bass."""
MAX_FRAMES = 100_000

Frames = NDArray[np.bool_]
Voices = NDArray[np.int64]


def sounding(midi: Midi, resolution: int, name: str) -> Frames:
    """(T, P): the keys that sound at each of `resolution` instants a quarter, from the first at
    which anything does; drums are left out.

    Raises:
        DataError: nothing sounds at such an instant, a pitch is no key of a piano, or the piece is
            too long; names the file.
    """
    notes = midi.notes[midi.notes[:, 3] != DRUMS]
    step = midi.ticks / resolution
    first = np.ceil(notes[:, 0] / step - 1e-9).astype(np.int64)
    end = np.ceil((notes[:, 0] + notes[:, 1]) / step - 1e-9).astype(np.int64)
    heard = end > first
    if not heard.any():
        raise DataError(f"{name}: has no note with a pitch that sounds at a frame")
    return _filled(first[heard], end[heard], notes[heard, 2], name)


def frames_of(music: Music) -> Frames:
    """(T, P) of a piece on a grid, one frame a step, up to the end of its last bar or note.

    Raises:
        DataError: a pitch is no key of a piano.
    """
    notes = music.notes[music.notes[:, 3] != INSTRUMENTS - 1]
    whole = np.zeros((music.bars * music.steps_per_bar, KEYS), np.bool_)
    if not len(notes):
        return whole
    start, end = notes[:, 0], notes[:, 0] + notes[:, 1]
    frames = _filled(start - start.min(), end - start.min(), notes[:, 2], "the piece")
    T = max(len(whole), int(end.max()))
    return np.pad(frames, ((int(start.min()), T - int(end.max())), (0, 0)))


def _filled(first: Voices, end: Voices, pitch: Voices, name: str) -> Frames:
    if not LOWEST <= pitch.min() <= pitch.max() < LOWEST + KEYS:
        outside = pitch.min() if pitch.min() < LOWEST else pitch.max()
        raise DataError(
            f"{name}: has pitch {outside}, and the keys are {LOWEST} to {LOWEST + KEYS - 1}"
        )
    first, end = first - first.min(), end - first.min()
    if end.max() > MAX_FRAMES:
        raise DataError(f"{name}: has {end.max():,} frames, and {MAX_FRAMES:,} are read at most")
    frames = np.zeros((int(end.max()), KEYS), np.bool_)
    for a, b, key in zip(first.tolist(), end.tolist(), (pitch - LOWEST).tolist(), strict=True):
        frames[a:b, key] = True
    return frames


def music_of(frames: Frames, resolution: int, beats_per_bar: int, tempo: float) -> Music:
    """The piece of frames (T, P) as a piano plays it, one step a frame, in whole bars."""
    edges = np.diff(frames.astype(np.int8), axis=0, prepend=0, append=0).T  # (P, T + 1)
    key, start = np.nonzero(edges == 1)
    _, end = np.nonzero(edges == -1)
    rows = np.stack([start, end - start, key + LOWEST, np.zeros_like(key)], 1)
    return _piece(rows, len(frames), resolution, beats_per_bar, tempo)


def voices_of(music: Music) -> Voices:
    """(T, V): the pitch that each of VOICES holds at each step, or SILENCE.

    Raises:
        DataError: another instrument plays, or a voice has two notes at once.
    """
    grid = np.full((music.bars * music.steps_per_bar, len(VOICES)), SILENCE, np.int64)
    for start, duration, pitch, group in music.notes.tolist():
        if group not in VOICES:
            raise DataError(f"instrument {group} plays none of the {len(VOICES)} voices")
        held = grid[start : start + duration, VOICES.index(group)]
        if (held != SILENCE).any():
            raise DataError(f"a voice has two notes at step {start}")
        held[:] = pitch
    return grid


def music_of_voices(grid: Voices, resolution: int, beats_per_bar: int, tempo: float) -> Music:
    """The piece of a grid (T, V), a step a row, in whole bars; a pitch that stays is one note."""
    rows = []
    for voice, group in enumerate(VOICES):
        held = grid[:, voice]
        starts = np.flatnonzero(np.diff(held, prepend=SILENCE - 1))
        ends = np.append(starts[1:], len(held))
        rows += [(a, b - a, held[a], group) for a, b in zip(starts, ends, strict=True)]
    notes = np.array([row for row in rows if row[2] != SILENCE], np.int64).reshape(-1, 4)
    return _piece(notes, len(grid), resolution, beats_per_bar, tempo)


def _piece(
    rows: NDArray[np.int64], steps: int, resolution: int, beats_per_bar: int, tempo: float
) -> Music:
    bars = -(-steps // (resolution * beats_per_bar))
    notes = settle(rows.astype(np.int64))
    near = min(TEMPOS, key=lambda known: abs(known - tempo))
    return Music(notes, resolution, beats_per_bar, bars, near, estimate_key(notes))


def sets_as_frames(piece: Sequence[Sequence[int]], name: str) -> Frames:
    """(T, P) of a piece that lists the pitches of each frame; SILENCE stands for none.

    Raises:
        DataError: it is no such list, is empty or has a pitch that is no key.
    """
    places: list[tuple[int, int]] = []
    if not isinstance(piece, list) or not piece:
        raise DataError(f"{name}: is no list of frames")
    if len(piece) > MAX_FRAMES:
        raise DataError(f"{name}: has {len(piece):,} frames, and {MAX_FRAMES:,} are read at most")
    for frame, pitches in enumerate(piece):
        whole = isinstance(pitches, list) and all(type(pitch) is int for pitch in pitches)
        if not whole:
            raise DataError(f"{name}: frame {frame} is no list of pitches but {str(pitches)[:40]}")
        for pitch in pitches:
            if pitch != SILENCE and not LOWEST <= pitch < LOWEST + KEYS:
                raise DataError(
                    f"{name}: has pitch {pitch}, and the keys are {LOWEST} to {LOWEST + KEYS - 1}"
                )
            if pitch != SILENCE:
                places.append((frame, pitch - LOWEST))
    frames = np.zeros((len(piece), KEYS), np.bool_)
    if places:
        frames[tuple(np.array(places).T)] = True
    return frames
