"""Sound of notes from a soundfont of the user's (.sf2, .sf3), by the package tinysoundfont."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import numpy as np

from aigc_cli.errors import InputError, MissingError
from aigc_cli.media.midi import DRUMS, Notes
from aigc_cli.media.synth import PEAK, SAMPLE_RATE, Wave

TAIL = 1.0  # seconds in which the last notes die away
MAX_BYTES = 1 << 30


class Soundfont:
    """An opened file of sounds."""

    def __init__(self, path: Path, sample_rate: int = SAMPLE_RATE) -> None:
        """
        Raises:
            InputError: there is no such file, or it is no soundfont. MissingError: tinysoundfont is
                not installed.
        """
        try:
            import tinysoundfont
        except ImportError as error:
            raise MissingError(
                "a soundfont needs the package tinysoundfont, which is not installed",
                hint="pip install --no-deps tinysoundfont: what it depends on only plays aloud",
            ) from error
        if not path.is_file():
            raise InputError(f"write.soundfont={path}: there is no such file")
        with path.open("rb") as file:
            head = file.read(12)
        size = path.stat().st_size
        if head[:4] != b"RIFF" or head[8:] != b"sfbk" or size > MAX_BYTES:
            raise InputError(f"write.soundfont={path}: is no soundfont (.sf2, .sf3) up to 1 GB")
        self.sample_rate = sample_rate
        self.synth = tinysoundfont.Synth(samplerate=sample_rate)
        try:
            self.font = self.synth.sfload(str(path))
        except Exception as error:  # whatever the package says of a damaged file
            raise InputError(f"write.soundfont={path}: is damaged: {error}") from error

    def render(self, notes: Notes, seconds_per_tick: float) -> Wave:
        """As `media.synth.render`: samples (T,) within PEAK, both channels mixed."""
        per_tick = seconds_per_tick * self.sample_rate
        end = int((notes[:, 0] + notes[:, 1]).max(initial=0)) * per_tick
        total = round(end + TAIL * self.sample_rate)
        out = np.zeros(total, np.float32)
        for program in np.unique(notes[:, 3]).tolist():
            out += self._voice(notes[notes[:, 3] == program], program, per_tick, total)
        peak = float(np.abs(out).max())
        return out * np.float32(PEAK / peak) if peak > 0 else out

    def _voice(self, notes: Notes, program: int, per_tick: float, total: int) -> Wave:
        """What one program plays, (total,), not scaled."""
        synth, channel = self.synth, 9 if program == DRUMS else 0
        number = 0 if program == DRUMS else program
        synth.program_select(channel, self.font, 0, number, program == DRUMS)
        events = []
        for start, duration, pitch, _, velocity in notes.tolist():
            first = round(start * per_tick)
            last = max(round((start + duration) * per_tick), first + 1)
            events += [(first, 1, pitch, velocity), (last, 0, pitch, 0)]
        out, place = np.zeros(total, np.float32), 0
        for time, several in groupby(sorted(events), lambda event: event[0]):
            out[place:time], place = self._next(time - place), time
            for _, begins, pitch, velocity in several:  # a note ends before the next begins
                if begins:
                    synth.noteon(channel, pitch, velocity)
                else:
                    synth.noteoff(channel, pitch)
        out[place:] = self._next(total - place)
        synth.sounds_off(channel)
        return out

    def _next(self, samples: int) -> Wave:
        if not samples:
            return np.zeros(0, np.float32)
        both = np.frombuffer(self.synth.generate(samples), np.float32)
        mixed: Wave = both.reshape(-1, 2).mean(1)
        return mixed
