"""Files that end their parser, and tunes in ABC."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from aigc_cli.data._music_files import files_in
from aigc_cli.data.midi import read_pieces, scale_file
from aigc_cli.errors import DataError
from aigc_cli.media import parsing
from aigc_cli.media.events import Events
from aigc_cli.media.midi import Midi, read_midi
from aigc_cli.media.parsing import parse

TUNES = b"""% a file of tunes

X:1
T:Up
M:4/4
L:1/4
Q:1/4=96
K:C
CDEF|GABc|

X:2
T:Up and up again
M:4/4
L:1/4
K:G
|:G2B2:|
"""
CRASHES = """
import os
import aigc_cli.media.parsing as parsing
read = parsing.read_music
parsing.read_music = lambda data, name: os.abort() if "crash" in name else read(data, name)
parsing.serve()
"""


def test_a_parser_that_dies_costs_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    parsing._close_all()
    monkeypatch.setattr(parsing, "COMMAND", [sys.executable, "-P", "-c", CRASHES])
    names = ["0.mid", "crash.mid", "2.mid", "bad.mid", "4.mid"]
    files = [(n, b"nothing" if n == "bad.mid" else scale_file(i)) for i, n in enumerate(names)]
    found = dict(parse(files))
    parsing._close_all()
    assert list(found) == names
    crashed, bad = found["crash.mid"], found["bad.mid"]
    assert isinstance(crashed, DataError)
    assert crashed.message.startswith("crash.mid: ends its parser (exit code -")
    assert isinstance(bad, DataError)
    assert bad.message == "bad.mid: is no MIDI file"
    for index in (0, 2, 4):
        midi, here = found[names[index]], read_midi(scale_file(index), "x")
        assert isinstance(midi, Midi)
        np.testing.assert_array_equal(midi.notes, here.notes)
        assert (midi.ticks, midi.tempo, midi.meters) == (here.ticks, here.tempo, here.meters)


def test_a_parser_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    parsing._close_all()
    monkeypatch.setattr(parsing, "COMMAND", [sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(parsing, "SECONDS", 0.2)
    ((_, found),) = parse([("slow.mid", scale_file(0))])
    assert isinstance(found, DataError)
    assert "slow.mid: ends its parser" in found.message


def test_tunes_are_read_as_they_are_played(tmp_path: Path) -> None:
    path = tmp_path / "tunes.abc"
    path.write_bytes(TUNES)
    assert [name for name, _ in files_in(str(path))] == ["tunes.abc:1", "tunes.abc:2"]
    (tmp_path / "none.abc").write_bytes(b"no tune")
    (tmp_path / "bad.abc").write_bytes(b"X:1\nno key\n")
    found = read_pieces(str(tmp_path), Events(4, 4))
    assert found.names == ["tunes.abc:1", "tunes.abc:2"]
    up, again = found.music
    assert up.notes[:, :3].tolist() == [
        [4 * n, 4, pitch] for n, pitch in enumerate((60, 62, 64, 65, 67, 69, 71, 72))
    ]
    assert up.tempo == 96
    assert again.notes[:, [0, 2]].tolist() == [[0, 67], [8, 71], [16, 67], [24, 71]]
    assert found.skipped == {
        "bad.abc:1": "is no tune in ABC that can be played",
        "none.abc": "has no tune, which begins with X:",
    }
