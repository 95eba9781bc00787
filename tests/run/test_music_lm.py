"""The family through the command line: what it writes can be opened, and bars are as asked for."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from aigc_cli.data.midi import scale_file
from aigc_cli.media.events import Events, Grammar
from aigc_cli.media.midi import read_midi
from aigc_cli.media.record import read_record
from aigc_cli.models.music.music_lm import Grammatical, Model, Options
from aigc_cli.recipe.example import example_recipe
from aigc_cli.registry import load_family
from aigc_cli.sampling.decoding import Decoder
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.music import MusicSpec

EVENTS = Events(4, 4)
mido = pytest.importorskip("mido")


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model(load_family("music_lm").Config.tiny(), MusicSpec(64, 4, 4)).eval()


@pytest.mark.parametrize("bars", [1, 3])
def test_untrained_models_write_pieces_of_so_many_bars(model: Model, bars: int) -> None:
    options = Options(bars=bars, max_tokens=100)
    together = model.sample(SampleNoise(1, 0, 3), options)
    assert [piece.bars for piece in together] == [bars] * 3
    alone = model.sample(SampleNoise(1, 2, 1), options)[0]
    assert alone.notes.tolist() == together[2].notes.tolist()


def test_a_prime_is_the_beginning_of_its_answers(model: Model) -> None:
    prime = model.sample(SampleNoise(1, 0, 1), Options(bars=2, max_tokens=30))[0]
    row = torch.tensor([event for part in model.events.encode(prime) for event in part])
    for answer in model.sample(SampleNoise(2, 0, 2), Options(bars=2, max_tokens=30), row):
        assert answer.bars == 4
        assert (
            answer.bars_from(0, 2).notes[:, [0, 2, 3]].tolist()
            == prime.notes[:, [0, 2, 3]].tolist()
        )
        assert (answer.key, answer.tempo) == (prime.key, prime.tempo)


@pytest.fixture
def trained(aigc, here: Path) -> str:
    path = here / "tiny.yaml"
    path.write_text(yaml.safe_dump(example_recipe("music_lm", here / "data").as_dict()))
    assert aigc("train", "tiny.yaml", "--out", "run", "--quiet").code == 0
    return "run"


def test_files_open_elsewhere_and_say_how_they_were_made(aigc, here: Path, trained: str) -> None:
    made = aigc("sample", trained, "-n", "2", "--out", "made", "--seed", "5", "--json", "bars=2")
    assert made.code == 0, made.err
    again = aigc("sample", trained, "-n", "2", "--out", "again", "--seed", "5", "--json", "bars=2")
    assert [i["sha256"] for i in made.json["items"]] == [i["sha256"] for i in again.json["items"]]
    names = [item["path"] for item in made.json["items"]]
    assert names == [f"sample-0000{n}.{e}" for n in (0, 1) for e in ("mid", "wav", "png")] + [
        "sheet.png"
    ]
    entry = made.json["items"][0]
    assert entry["bars"] == 2
    assert {"key", "tempo", "notes"} <= set(entry)
    file = mido.MidiFile(here / "made/sample-00000.mid")
    text = next(m.text for part in file.tracks for m in part if m.type == "text")
    assert json.loads(text)["aigc"]["bars"] == 2
    played = [m for part in file.tracks for m in part if m.type == "note_on"]
    assert (
        len(played)
        == entry["notes"]
        == len(read_midi((here / "made/sample-00000.mid").read_bytes(), "x").notes)
    )
    with wave.open(str(here / "made/sample-00000.wav")) as sound:
        assert sound.getnframes() > 0
    with Image.open(here / "made/sheet.png") as picture:
        picture.load()
    assert read_record(here / "made/sample-00000.png")["bars"] == 2


def test_inputs_are_gone_on_from_or_named(aigc, here: Path, trained: str) -> None:
    (here / "song.mid").write_bytes(scale_file(2, bars=8))
    made = aigc("sample", trained, "--input", "song.mid", "--out", "more", "--json", "read.bars=1")
    assert made.code == 0, made.err
    assert made.json["items"][0]["path"] == "song.mid"
    assert made.json["items"][0]["bars"] == 2  # one is read, one written
    long = aigc("sample", trained, "--input", "song.mid", "--out", "long", "read.bars=8")
    assert long.code == 2
    assert "has 268 events in its first 8 bars, and the model reads at most 47" in long.err
    (here / "bad.mid").write_bytes(b"MThd")
    bad = aigc("sample", trained, "--input", "bad.mid", "--out", "bad")
    assert bad.code == 2
    assert "bad.mid is no MIDI file" in bad.err


def test_metrics_are_of_samples_and_of_files(aigc, here: Path, trained: str) -> None:
    found = aigc(
        "evaluate", trained, "--json", "-m", "groove_consistency", "--count", "2", "bars=2"
    )
    assert found.code == 0, found.err
    measured = found.json["metrics"]["groove_consistency"]
    assert measured["n"] == 2
    assert 0 <= measured["value"] <= 1
    files = aigc("evaluate", "--generated", "data", "-m", "groove_consistency", "--json")
    assert files.code == 0, files.err
    assert files.json["metrics"]["groove_consistency"]["value"] == 1  # scales in eighths


def test_data_check_names_what_is_there_twice(aigc, here: Path) -> None:
    (here / "songs").mkdir()
    for root in (0, 1):
        (here / f"songs/{root}.mid").write_bytes(scale_file(root))
    (here / "songs/copy.mid").write_bytes(scale_file(0))
    (here / "songs/bad.mid").write_bytes(b"x")
    found = aigc("data", "check", "songs")
    assert "copy.mid has the notes of" in found.err + found.out
    assert "bad.mid is no MIDI file" in found.err + found.out
    (here / "none").mkdir()
    none = aigc("train", "music_lm_demo", "data.train=none")
    assert none.code == 2
    assert "there are no MIDI files" in none.err


def test_the_last_bar_ends_where_the_next_would_begin() -> None:
    class Wants(Decoder):
        """Wants nothing but another bar."""

        def step(self, tokens: torch.Tensor | None) -> torch.Tensor:
            logits = torch.zeros(1, EVENTS.offsets["size"])
            logits[0, EVENTS.offsets["bar"]] = 9
            return logits

        def select(self, rows: torch.Tensor) -> None: ...

    grammar = Grammar(EVENTS).read([1, 3, 27])
    grammar.left = 1
    decoder = Grammatical(Wants(), [grammar])
    assert decoder.step(None).argmax() == EVENTS.offsets["bar"]
    assert decoder.step(torch.tensor([EVENTS.offsets["bar"]])).argmax() == EVENTS.offsets["end"]
