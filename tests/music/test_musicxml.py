"""MusicXML is read as it is played, and whatever is wrong with it is one sentence."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from aigc_cli.data.midi import read_pieces
from aigc_cli.errors import DataError
from aigc_cli.media.events import Events
from aigc_cli.media.midi import DRUMS, MAX_BYTES
from aigc_cli.media.musicxml import TICKS, read_musicxml

TIME = "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time>"


def note(pitch: str, length: int, *more: str) -> str:
    step, octave = pitch[0], pitch[-1]
    alter = f"<alter>{pitch.count('#') - pitch.count('b')}</alter>" if len(pitch) > 2 else ""
    before = "".join(part for part in more if part in ("<chord/>", "<grace/>"))
    after = "".join(part for part in more if part not in ("<chord/>", "<grace/>"))
    return (
        f"<note>{before}<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>"
        f"<duration>{length}</duration>{after}</note>"
    )


def score(*measures: str, parts: str = "<score-part id='P1'/>", head: str = "") -> bytes:
    inner = "".join(f"<measure number='{n}'>{m}</measure>" for n, m in enumerate(measures, 1))
    return (
        f"<?xml version='1.0'?>{head}<score-partwise><part-list>{parts}</part-list>"
        f"<part id='P1'>{inner}</part></score-partwise>"
    ).encode()


def rows(data: bytes) -> list[list[float]]:
    """Start and length in quarters, pitch and program of each note."""
    notes = read_musicxml(data, "x").notes
    return [[a / TICKS, b / TICKS, c, d] for a, b, c, d, _ in notes.tolist()]


def test_chords_voices_rests_and_alterations() -> None:
    bass = note("C3", 8)
    data = score(
        TIME + "</attributes>" + note("F#4", 2) + note("A4", 2, "<chord/>")
        + "<note><rest/><duration>2</duration></note>" + note("Bb4", 4)
        + "<backup><duration>8</duration></backup>" + bass
    )  # fmt: skip
    assert rows(data) == [[0, 4, 48, 0], [0, 1, 66, 0], [0, 1, 69, 0], [2, 2, 70, 0]]
    assert read_musicxml(data, "x").meters == ((4, 4),)


def test_ties_are_one_note_and_grace_notes_none() -> None:
    tied = note("C4", 4, "<tie type='start'/>"), note("C4", 2, "<tie type='stop'/>")
    data = score(TIME + "</attributes>" + note("D4", 0, "<grace/>") + "".join(tied) + note("C4", 2))
    assert rows(data) == [[0, 3, 60, 0], [3, 1, 60, 0]]


def test_repeats_and_endings_are_played() -> None:
    def ending(number: int, inside: str, repeat: str = "") -> str:
        left = f"<barline><ending number='{number}' type='start'/></barline>"
        right = f"<barline><ending number='{number}' type='stop'/>{repeat}</barline>"
        return left + inside + right

    data = score(
        TIME + "</attributes>" + note("C4", 8),
        "<barline><repeat direction='forward'/></barline>" + note("D4", 8),
        ending(1, note("E4", 8), "<repeat direction='backward'/>"),
        ending(2, note("F4", 8)),
        note("G4", 8),
    )
    assert [pitch for _, _, pitch, _ in rows(data)] == [60, 62, 64, 62, 65, 67]
    assert [start for start, *_ in rows(data)] == [0, 4, 8, 12, 16, 20]


def test_tempo_instruments_and_what_transposing_ones_sound() -> None:
    clarinet = "<score-part id='P1'><midi-instrument id='I1'><midi-program>72</midi-program>"
    data = score(
        TIME + "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
        "</attributes><direction><sound tempo='60'/></direction>" + note("D4", 4)
        + "<direction><direction-type><metronome><beat-unit>quarter</beat-unit><beat-unit-dot/>"
        "<per-minute>80</per-minute></metronome></direction-type></direction>" + note("D4", 4),
        parts=clarinet + "</midi-instrument></score-part>",
    )  # fmt: skip
    assert rows(data) == [[0, 2, 60, 71], [2, 2, 60, 71]]
    assert read_musicxml(data, "x").tempo == pytest.approx(80)  # 2 quarters of 1 s, 2 of 0.5 s
    drums = "<score-part id='P1'><midi-instrument id='S'><midi-channel>10</midi-channel>"
    hit = "<note><unpitched/><duration>2</duration><instrument id='S'/></note>"
    kit = drums + "<midi-unpitched>39</midi-unpitched></midi-instrument></score-part>"
    assert rows(score(TIME + "</attributes>" + hit, parts=kit)) == [[0, 1, 38, DRUMS]]


def test_packed_scores_are_those_that_the_container_names(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("META-INF/container.xml", "<c><rootfile full-path='b.xml'/></c>")
        file.writestr("a.xml", score(TIME + "</attributes>" + note("C4", 8)))
        file.writestr("b.xml", score(TIME + "</attributes>" + note("D4", 8)))
    assert rows(data.getvalue()) == [[0, 4, 62, 0]]
    (tmp_path / "one.mxl").write_bytes(data.getvalue())
    (tmp_path / "two.musicxml").write_bytes(score(TIME + "</attributes>" + note("E4", 8)))
    (tmp_path / "three.musicxml").write_bytes(b"<html>")
    found = read_pieces(str(tmp_path), Events(4, 4))
    assert found.names == ["one.mxl", "two.musicxml"]
    np.testing.assert_array_equal(found.music[1].notes, [[0, 16, 64, 0]])
    assert list(found.skipped) == ["three.musicxml"]


BAD = {
    "no XML": (b"<score-partwise>", "is no XML that can be read"),
    "another root": (b"<html/>", "its root is 'html'"),
    "no notes": (score(""), "has no notes"),
    "entities": (score("", head="<!DOCTYPE s [<!ENTITY a 'b'>]>"), "defines entities"),
    "no score": (b"PK\x05\x06" + bytes(18), "is no MIDI file"),
    "cut zip": (b"PK\x03\x04" + bytes(90), "is no zip"),
    "large": (b"<" + bytes(MAX_BYTES), "bytes, and"),
    "no step": (
        score(TIME + "</attributes><note><pitch/><duration>1</duration></note>"),
        "is damaged MusicXML",
    ),
    "divisions 0": (
        score("<attributes><divisions>0</divisions></attributes>" + note("C4", 1)),
        "is damaged MusicXML",
    ),
    "tempo 0": (score("<sound tempo='0.0'/>" + note("C4", 1)), "has a tempo of 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_scores_are_one_sentence(case: str, tmp_path: Path) -> None:
    from aigc_cli.media.parsing import read_music

    data, says = BAD[case]
    with pytest.raises(DataError) as caught:
        read_music(data, "x.musicxml")
    assert says in caught.value.message
    assert caught.value.message.startswith("x.musicxml: ")
