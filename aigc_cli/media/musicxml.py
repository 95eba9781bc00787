"""Scores in MusicXML, packed (.mxl) or not, as they are played: with ties, repeats and endings.

https://www.w3.org/2021/06/musicxml40/. Read are pitches, lengths, chords, voices, percussion, time
signatures, tempo, instruments and what transposing ones sound; not read are grace notes, dynamics,
jumps (D.C., D.S.) and what hangs above the notes, such as lyrics.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from xml.etree.ElementTree import Element, ParseError, fromstring

import numpy as np

from aigc_cli.errors import DataError
from aigc_cli.media.midi import DRUMS, MAX_BYTES, MAX_NOTES, MICROSECONDS, Midi, mean_tempo

ENDINGS = (".musicxml", ".mxl")
TICKS = 10_080  # of a quarter: divisible by all usual divisions
MAX_MEASURES = 20_000
STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
UNITS = {"whole": 4.0, "half": 2.0, "quarter": 1.0, "eighth": 0.5, "16th": 0.25}
VELOCITY = 80


def is_score(data: bytes) -> bool:
    """Whether this is XML, or a zip, which no MIDI file and no tune is."""
    return data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<" or data[:4] == b"PK\x03\x04"


def read_musicxml(data: bytes, name: str) -> Midi:
    """The notes of a score.

    Raises:
        DataError: it is no MusicXML by parts, too large, damaged or without notes; names the file.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: has {len(data):,} bytes, and {MAX_BYTES:,} are read at most")
    root = _root(_unpacked(data, name) if data[:4] == b"PK\x03\x04" else data, name)
    if root.tag != "score-partwise":
        raise DataError(f"{name}: is XML, but no score by parts: its root is {root.tag!r}")
    parts = root.findall("part")
    if not parts:
        raise DataError(f"{name}: has no notes")
    order = _order(parts[0], name)
    score = _Score(name)
    try:
        instruments = {part.get("id"): _Instrument.read(part) for part in root.iter("score-part")}
        for part in parts:
            score.play(part, order, instruments.get(part.get("id"), _Instrument()))
    except (ValueError, KeyError, ZeroDivisionError, OverflowError) as error:
        raise DataError(f"{name}: is damaged MusicXML: {error}") from error
    return score.midi()


def _unpacked(data: bytes, name: str) -> bytes:
    """The score in a zip: that which its container names, otherwise the first."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as whole:
            inside = [n for n in whole.namelist() if n.lower().endswith((".xml", ".musicxml"))]
            scores = [n for n in inside if not n.startswith("META-INF/")]
            if "META-INF/container.xml" in inside:
                with whole.open("META-INF/container.xml") as file:
                    container = _root(file.read(MAX_BYTES + 1), name)
                named = [e.get("full-path") for e in container.iter() if e.tag.endswith("rootfile")]
                scores = [n for n in scores if n == named[0]] if named else scores
            if not scores:
                raise DataError(f"{name}: is a zip without a score")
            with whole.open(scores[0]) as file:
                found = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError) as error:
        raise DataError(f"{name}: is no zip that can be read: {error}") from error
    if len(found) > MAX_BYTES:
        raise DataError(f"{name}: unpacks to more than {MAX_BYTES:,} bytes")
    return found


def _root(data: bytes, name: str) -> Element:
    if b"<!ENTITY" in data:  # what makes small files large, or reads others
        raise DataError(f"{name}: defines entities, which no score needs")
    try:
        return fromstring(data)  # noqa: S314 - no entities, and expat opens no file
    except (ParseError, ValueError) as error:
        raise DataError(f"{name}: is no XML that can be read: {error}") from error


def _order(part: Element, name: str) -> list[int]:
    """The measures in the order in which they are played."""
    measures = part.findall("measure")
    within: set[int] = set()
    order: list[int] = []
    endings: list[set[int]] = []
    marks: list[set[str]] = []
    for measure in measures:  # which endings each is in, and whether it repeats
        stops = False
        marks.append({e.get("direction", "") for e in measure.iter("repeat")})
        for ending in measure.iter("ending"):
            if ending.get("type") == "start":
                number = ending.get("number", "1").replace(",", " ").split()
                within = {int(text) for text in number if text.isdecimal()}
            else:
                stops = True
        endings.append(set(within))
        within = set() if stops else within
    place = first = 0
    turn = 1
    while place < len(measures):
        if "forward" in marks[place] and place != first:
            first, turn = place, 1
        if not endings[place] or turn in endings[place]:
            order.append(place)
            if "backward" in marks[place] and turn < 2:
                place, turn = first, turn + 1
                continue
            if "backward" in marks[place]:
                first, turn = place + 1, 1
        place += 1
        if len(order) > MAX_MEASURES:
            raise DataError(f"{name}: has more than {MAX_MEASURES:,} measures")
    return order


@dataclass(frozen=True)
class _Instrument:
    """What plays a part: a program, or drums by the number of their instrument."""

    program: int = 0
    pitches: dict[str, int] = field(default_factory=dict)
    """MIDI notes of the percussion instruments of the part."""

    @staticmethod
    def read(part: Element) -> _Instrument:
        program, pitches = 0, {}
        for midi in part.findall("midi-instrument"):
            program = int(midi.findtext("midi-program") or 1) - 1
            if note := midi.findtext("midi-unpitched"):
                pitches[midi.get("id", "")] = int(note) - 1
        if not 0 <= program <= 127:
            raise ValueError(f"program {program + 1}")
        return _Instrument(program, pitches)


class _Score:
    """Notes of all parts, in TICKS, and what was said of tempo and meter."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: list[list[int]] = []
        self.tempos: list[tuple[int, int]] = []
        self.meters: dict[tuple[int, int], None] = {}

    def play(self, part: Element, order: list[int], instrument: _Instrument) -> None:
        """Add the notes of a part."""
        measures = part.findall("measure")
        divisions, up = Fraction(1), 0
        open_ties: dict[int, list[int]] = {}
        begin = Fraction(0)  # quarters
        for number in order:
            if number >= len(measures):
                break
            now = before = end = begin
            for element in measures[number]:
                length = Fraction(element.findtext("duration") or 0) / divisions
                match element.tag:
                    case "attributes":
                        divisions = Fraction(element.findtext("divisions") or divisions)
                        up = _transposed(element, up)
                        self._meter(element)
                    case "backup":
                        now = max(now - length, begin)
                    case "forward":
                        now += length
                    case "note" if element.find("grace") is None:
                        start = before if element.find("chord") is not None else now
                        self._note(element, start, length, instrument, up, open_ties)
                        before, now = start, max(now, start + length)
                    case "direction" | "sound":
                        self._tempo(element, now)
                end = max(end, now)
            begin = end

    def _note(
        self,
        note: Element,
        start: Fraction,
        length: Fraction,
        instrument: _Instrument,
        up: int,
        open_ties: dict[int, list[int]],
    ) -> None:
        if length <= 0:
            return
        first, ticks = round(start * TICKS), max(round(length * TICKS), 1)
        if (pitch := note.find("pitch")) is not None:
            alter = round(float(pitch.findtext("alter") or 0))
            octave = int(pitch.findtext("octave") or 4)
            height = 12 * (octave + 1) + STEPS[pitch.findtext("step") or ""] + alter + up
            program = instrument.program
        elif note.find("unpitched") is not None:
            named = note.find("instrument")
            found = instrument.pitches.get("" if named is None else named.get("id", ""))
            height = next(iter(instrument.pitches.values()), -1) if found is None else found
            program = DRUMS
        else:
            return
        if not 0 <= height <= 127:
            return
        ties = {tie.get("type") for tie in note.findall("tie")}
        held = open_ties.pop(height, None) if "stop" in ties else None
        if held is not None and held[0] + held[1] == first:
            held[1] += ticks
        else:
            held = [first, ticks, height, program, VELOCITY]
            self.rows.append(held)
            if len(self.rows) > MAX_NOTES:
                raise DataError(f"{self.name}: has more than {MAX_NOTES:,} notes")
        if "start" in ties:
            open_ties[height] = held

    def _meter(self, attributes: Element) -> None:
        for time in attributes.findall("time"):
            if (beats := time.findtext("beats")) and (kind := time.findtext("beat-type")):
                self.meters[sum(map(int, beats.split("+"))), int(kind)] = None

    def _tempo(self, element: Element, now: Fraction) -> None:
        for quarters in _tempos(element):
            if not 1 <= quarters <= 1_000:
                raise DataError(f"{self.name}: has a tempo of {quarters:g} quarters a minute")
            self.tempos.append((round(now * TICKS), round(MICROSECONDS / quarters)))

    def midi(self) -> Midi:
        """What was played. Raises DataError without notes."""
        if not self.rows:
            raise DataError(f"{self.name}: has no notes")
        notes = np.array(self.rows, np.int64)
        notes = notes[np.lexsort((notes[:, 2], notes[:, 3], notes[:, 0]))]
        end = int((notes[:, 0] + notes[:, 1]).max())
        tempo = mean_tempo(sorted(self.tempos), end, self.name)
        return Midi(TICKS, notes, tempo, tuple(self.meters))


def _transposed(attributes: Element, up: int) -> int:
    """Semitones that the part sounds above what is written."""
    found = attributes.find("transpose")
    if found is None:
        return up
    chromatic = round(float(found.findtext("chromatic") or 0))
    return chromatic + 12 * int(found.findtext("octave-change") or 0)


def _tempos(element: Element) -> Iterator[float]:
    """Quarters a minute that are said in a direction: how it sounds, otherwise what is printed."""
    said = [float(s.get("tempo", 0)) for s in element.iter("sound") if s.get("tempo")]
    if said:
        yield said[-1]
        return
    for mark in element.iter("metronome"):
        unit, count = mark.findtext("beat-unit"), mark.findtext("per-minute") or ""
        if unit in UNITS and count.replace(".", "", 1).isdecimal():
            yield (
                float(count) * UNITS[unit] * (1.5 if mark.find("beat-unit-dot") is not None else 1)
            )
