"""MIDI, events, sound and rolls: round trips, references and bad files."""

from __future__ import annotations

import io
import struct
import time
import wave
import zipfile
from contextlib import suppress
from math import log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.data.midi import Config, Data, read_pieces, scale_file, transposed
from aigc_cli.errors import DataError
from aigc_cli.media.events import KEYS, TEMPOS, Events, Grammar, Music, on_grid, settle
from aigc_cli.media.midi import DRUMS, midi_bytes, read_midi
from aigc_cli.media.roll import piano_roll
from aigc_cli.media.synth import PEAK, SAMPLE_RATE, render, wav_bytes
from aigc_cli.registry import load_metric

mido = pytest.importorskip("mido")
EVENTS = Events(4, 4)
HEAD = b"MThd" + struct.pack(">IHHH", 6, 1, 1, 480)


def track(body: bytes, size: int | None = None) -> bytes:
    body += b"\0\xff\x2f\0"
    return b"MTrk" + struct.pack(">I", len(body) if size is None else size) + body


@st.composite
def pieces(draw: st.DrawFn) -> Music:
    """Any piece that a grid of sixteenths can hold."""
    bars = draw(st.integers(1, 4))
    row = st.tuples(
        st.integers(0, bars * 16 - 1), st.integers(1, 32), st.integers(0, 127), st.integers(0, 16)
    )
    notes = settle(np.array(draw(st.lists(row, max_size=30)), np.int64).reshape(-1, 4))
    tempo, key = draw(st.sampled_from(TEMPOS)), draw(st.integers(0, len(KEYS) - 1))
    return Music(notes, 4, 4, bars, tempo, key)


@given(pieces())
@settings(deadline=None, max_examples=60)
def test_events_go_around_exactly_and_keep_the_grammar(music: Music) -> None:
    row = EVENTS.row(music)
    back = EVENTS.decode(row)
    np.testing.assert_array_equal(back.notes, music.notes)
    assert back.facts == music.facts
    grammar = Grammar(EVENTS)
    for event in [*row, EVENTS.offsets["end"]]:
        assert grammar.allowed()[event]
        grammar.read([event])


@given(pieces())
@settings(deadline=None, max_examples=40)
def test_files_go_around_exactly(music: Music) -> None:
    if not len(music.notes) or music.notes[0, 0] >= 16:  # empty bars at the beginning go
        return
    data = midi_bytes(music.as_midi(), music.tempo, (4, 4), text="who made it")
    back = on_grid(read_midi(data, "x.mid"), EVENTS, "x.mid")
    np.testing.assert_array_equal(back.notes, music.notes)
    assert back.tempo == music.tempo


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=15)
def test_whatever_the_grammar_allows_is_a_piece(seed: int) -> None:
    random, grammar, row = np.random.default_rng(seed), Grammar(EVENTS), []
    grammar.left = 3
    while not row or row[-1] != EVENTS.offsets["end"]:
        row.append(int(random.choice(np.flatnonzero(grammar.allowed()))))
        grammar.read(row[-1:])
    music = EVENTS.decode(row)
    assert music.bars == 3
    assert (music.notes[:, 1] >= 1).all()
    for cut in range(0, len(row), 7):  # nor does it matter where a row stops
        EVENTS.decode(row[:cut])


def test_another_parser_reads_what_is_written() -> None:
    notes = np.array([[0, 480, 60, 0, 90], [480, 240, 64, 32, 80], [0, 240, 36, DRUMS, 100]])
    file = mido.MidiFile(file=io.BytesIO(midi_bytes(notes, 90, (3, 4), text="ünï")))
    messages = [message for part in file.tracks for message in part]
    played = [m for m in messages if m.type == "note_on"]
    assert sorted((m.note, m.channel) for m in played) == [(36, 9), (60, 0), (64, 1)]
    assert [m.tempo for m in messages if m.type == "set_tempo"] == [666_667]
    assert [m.text.encode("latin1").decode() for m in messages if m.type == "text"] == ["ünï"]
    assert [(m.numerator, m.denominator) for m in messages if m.type == "time_signature"] == [
        (3, 4)
    ]
    assert file.length == pytest.approx(720 / 480 * 60 / 90, abs=1e-4)


NOTE = b"\0\x90\x3c\x40\x83\x60\x80\x3c\0"
YEARS = b"\xff\xff\xff\x7f" + NOTE[1:]
MANY = b"\0\x90\x3c\x40" + b"\0\x3c\x40\1\x3c\0" * 500_000
BAD = {
    "random bytes": (bytes(range(200)), "is no MIDI file"),
    "empty": (b"", "is no MIDI file"),
    "no notes": (HEAD + track(b""), "has no notes"),
    "hanging notes": (HEAD + track(b"\0\x90\x3c\x40"), "has no notes"),
    "type 2": (b"MThd" + struct.pack(">IHHH", 6, 2, 1, 480) + track(NOTE), "type 2"),
    "ticks 0": (b"MThd" + struct.pack(">IHHH", 6, 1, 1, 0) + track(NOTE), "counts time"),
    "frames": (b"MThd" + struct.pack(">IHHH", 6, 1, 1, 0xE728) + track(NOTE), "counts time"),
    "65,535 tracks": (b"MThd" + struct.pack(">IHHH", 6, 1, 65535, 480) + track(NOTE), "65,535 tra"),
    "cut off": (HEAD + track(NOTE, 5000), "is cut off"),
    "tempo 0": (HEAD + track(b"\0\xff\x51\x03\0\0\0" + NOTE), "tempo of 0"),
    "a million events": (HEAD + track(MANY), "notes, and"),
    "9 MB": (HEAD + track(NOTE * 1_000_000), "bytes, and"),
    "one bar of 3/8": (HEAD + track(b"\0\xff\x58\4\3\3\x18\x08" + NOTE), "is in 3/8"),
    "a note after years": (HEAD + track(YEARS + YEARS), "bars, and"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_sentence(case: str) -> None:
    data, says = BAD[case]
    with pytest.raises(DataError) as caught:
        on_grid(read_midi(data, "x.mid"), EVENTS, "x.mid")
    assert says in caught.value.message
    assert caught.value.message.startswith("x.mid: ")
    assert "\n" not in caught.value.message


@given(st.binary(max_size=60), st.integers(14, 400))
@settings(deadline=None, max_examples=200)
def test_damage_is_never_more_than_a_sentence(damage: bytes, place: int) -> None:
    whole = bytearray(scale_file(0))
    whole[place : place + len(damage)] = damage
    with suppress(DataError):
        on_grid(read_midi(bytes(whole), "x.mid"), EVENTS, "x.mid")


def test_one_bad_file_costs_one_file(tmp_path: Path) -> None:
    for root in range(3):
        (tmp_path / f"{root}.mid").write_bytes(scale_file(root))
    (tmp_path / "bad.mid").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("no music")
    found = read_pieces(str(tmp_path), EVENTS)
    assert found.names == ["0.mid", "1.mid", "2.mid"]
    assert found.skipped == {"bad.mid": "is no MIDI file"}
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as whole:
        for path in tmp_path.glob("*.mid"):
            whole.write(path, f"in/{path.name}")
    assert read_pieces(f"{archive}/in", EVENTS).names == ["in/0.mid", "in/1.mid", "in/2.mid"]
    (tmp_path / "list.txt").write_bytes(b"0.mid\n\n2.mid\n")
    assert read_pieces(str(tmp_path / "list.txt"), EVENTS).names == ["0.mid", "2.mid"]
    (tmp_path / "list.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="is no list of files in UTF-8"):
        read_pieces(str(tmp_path / "list.txt"), EVENTS)
    with pytest.raises(DataError, match="none of 1 files can be used"):
        read_pieces(str(tmp_path / "bad.mid"), EVENTS)


def test_rows_teach_every_event_once(tmp_path: Path) -> None:
    for root in range(4):
        (tmp_path / f"{root}.mid").write_bytes(scale_file(root))
    data = Data(Config(train=str(tmp_path), val="25%", context=16))
    taught = [e for i in range(len(data.val)) for e in data.val[i]["target"].tolist() if e != -100]
    assert taught == [*EVENTS.row(data.pieces["data.val"].music[0])[1:], EVENTS.offsets["end"]]
    checked = Data(Config(train=str(tmp_path), val=str(tmp_path)), spec=data.spec)
    assert len(checked.pieces["data.val"].music) == 4
    up = transposed(data.pieces["data.val"].music[0], 2)
    assert KEYS[data.pieces["data.val"].music[0].key] == "C major"
    assert KEYS[up.key] == "D major"


@pytest.mark.parametrize("group", range(16))
def test_a_is_440_hz_within_3_cents(group: int) -> None:
    sound = render(np.array([[0, 2000, 69, 8 * group, 100]]), 0.001)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 21))
    hertz = np.arange(len(spectrum)) * SAMPLE_RATE / (1 << 21)
    near = (hertz > 400) & (hertz < 480)
    found = hertz[near][spectrum[near].argmax()]
    assert abs(1200 * log2(found / 440)) < 3
    assert spectrum[near].max() > 0.2 * spectrum.max()


def test_four_parts_are_fast_and_do_not_clip() -> None:
    rows = [
        (480 * beat, 480, 48 + 7 * part + beat % 12, (0, 40, 56, DRUMS)[part], 127)
        for beat in range(120)
        for part in range(4)
    ]
    before = time.process_time()
    sound = render(np.array(rows), 60 / 120 / 480)
    assert time.process_time() - before < 3
    assert len(sound) / SAMPLE_RATE == pytest.approx(60, abs=0.5)
    assert np.abs(sound).max() == pytest.approx(PEAK, abs=1e-3)
    with wave.open(io.BytesIO(wav_bytes(sound))) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 44_100)
        assert file.getnframes() == len(sound)


def test_a_roll_shows_each_note() -> None:
    picture = piano_roll(Music(np.array([[0, 4, 60, 0], [8, 4, 64, 4]]), 4, 4, 1, 120, 0))
    assert (picture.height, picture.width) == (9 * 4, 16 * 4 + 1)
    assert (picture.pixels[6 * 4, 1] == picture.pixels[6 * 4, 15]).all()
    assert len(np.unique(picture.pixels[2 * 4, 33:48], axis=0)) == 1
    assert (picture.pixels[6 * 4, 1] != picture.pixels[2 * 4, 33]).any()


def test_metrics_have_the_values_of_a_hand() -> None:
    notes = [[0, 4, 60, 0], [4, 4, 62, 0], [8, 4, 60, 0], [16, 4, 61, 0], [24, 5, 36, 16]]
    music = Music(np.array(notes), 4, 4, 2, 120, 0)

    def value(name: str, **options: object) -> float:
        metric = load_metric(name).Metric
        return float(metric(metric.Options(**options)).compute(music))

    assert value("pitch_class_entropy") == pytest.approx(1.5)  # C twice, D, C#
    assert value("scale_consistency") == pytest.approx(0.75)  # all but one
    assert value("empty_beat_rate") == pytest.approx(2 / 8)  # the fourth and the sixth
    # For MusPy the fourth beat is filled by the end of the third note, the sixth by the next.
    assert value("empty_beat_rate", muspy=True) == pytest.approx(0)
    assert value("pitch_range") == 2
    assert value("pitch_entropy") == pytest.approx(1.5)
    assert value("polyphony") == 1
    assert value("polyphony_rate", pitches=1) == pytest.approx(16 / 20)
    assert value("polyphony_rate") == 0
    assert value("groove_consistency") == pytest.approx(1 - 1 / 16)  # step 4 alone differs
    # Two steps of three pitches, two of two, four of one: "more than 2" of MusPy are 3 or more.
    chord = [[0, 8, 60, 0], [0, 4, 64, 0], [2, 2, 67, 0]]
    music = Music(np.array(chord), 4, 4, 1, 120, 0)
    assert value("polyphony_rate") == pytest.approx(4 / 8)
    assert value("polyphony_rate", pitches=3) == pytest.approx(2 / 8)
    with pytest.raises(DataError, match="no notes with a pitch"):
        load_metric("scale_consistency").Metric().compute(
            Music(np.array(notes[-1:]), 4, 4, 2, 120, 0)
        )
