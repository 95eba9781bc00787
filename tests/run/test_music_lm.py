"""The family through the command line: what it writes can be opened, and bars are as asked for."""

from __future__ import annotations

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from aigc_cli.data.midi import Config, Data, example, scale_file
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.events import KEYS, Events, Grammar, Music, on_grid
from aigc_cli.media.merges import Merges
from aigc_cli.media.midi import read_midi
from aigc_cli.media.record import read_record
from aigc_cli.models.music._events import Grammatical
from aigc_cli.models.music.music_lm import Model, Options
from aigc_cli.recipe.example import example_recipe
from aigc_cli.registry import load_data_kind, load_family
from aigc_cli.sampling.decoding import TokenDecoder
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.music import MusicSpec
from tests.music.test_merges import MERGES, crowded
from tests.run.conftest import assert_same, load

EVENTS = Events(4, 4)
mido = pytest.importorskip("mido")


@pytest.fixture(params=[(), MERGES.pairs], ids=["events", "merges"])
def model(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(0)
    spec = MusicSpec(64, 4, 4, merges=request.param)
    return Model(load_family("music_lm").Config.tiny(), spec).eval()


@pytest.mark.parametrize("bars", [1, 3])
def test_untrained_models_write_pieces_of_so_many_bars(model: Model, bars: int) -> None:
    options = Options(bars=bars, max_tokens=100)
    together = model.sample(SampleNoise(1, 0, 3), options)
    assert [piece.bars for piece in together] == [bars] * 3
    alone = model.sample(SampleNoise(1, 2, 1), options)[0]
    assert alone.notes.tolist() == together[2].notes.tolist()


def test_a_prime_is_the_beginning_of_its_answers(model: Model) -> None:
    prime = model.sample(SampleNoise(1, 0, 1), Options(bars=2, max_tokens=30))[0]
    row = torch.tensor(model.writer.merges.merged(EVENTS.row(prime)))
    for answer in model.sample(SampleNoise(2, 0, 2), Options(bars=2, max_tokens=30), row):
        assert answer.bars == 4
        assert (
            answer.bars_from(0, 2).notes[:, [0, 2, 3]].tolist()
            == prime.notes[:, [0, 2, 3]].tolist()
        )
        assert (answer.key, answer.tempo) == (prime.key, prime.tempo)


def test_weights_of_other_merges_are_refused(model: Model) -> None:
    assert model.initial({}, model.spec) == {}
    with pytest.raises(InputError, match="tokens are merged of other events"):
        model.initial({}, replace(model.spec, merges=(*MERGES.pairs, 0, 0)))


@pytest.mark.parametrize("arch", ["llama", "classic", "lstm"])
def test_a_prime_longer_than_the_context_is_refused_or_read_whole(arch: str) -> None:
    config = load_family("music_lm").Config.tiny(arch=arch)
    model = Model(config, MusicSpec(64, 4, 4)).eval()
    piece = on_grid(read_midi(scale_file(2, bars=12), "x"), EVENTS, "x")
    row = torch.tensor(EVENTS.row(piece))
    assert len(row) > 64
    noise, options = SampleNoise(2, 0, 1), Options(bars=2, max_tokens=60)
    if arch != "lstm":
        with pytest.raises(InputError, match=rf"has {len(row)} tokens, .* reads at most 64"):
            model.sample(noise, options, row)
        return
    answer = model.sample(noise, options, row)[0]
    assert answer.bars == 14
    assert answer.bars_from(0, 12).notes.tolist() == piece.notes.tolist()


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
    assert "tokens in its 8 bars from 1 on, and the model reads at most 48" in long.err
    assert not (here / "long").exists()
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
    assert measured["real"] == 1  # scales in eighths
    assert 0 <= measured["markov"] <= 1
    assert measured["real_std"] == 0
    sets = aigc("evaluate", trained, "--json", "-m", "copied_run,overlap", "--count", "3", "bars=1")
    assert sets.code == 0, sets.err
    copied, overlap = (sets.json["metrics"][name] for name in ("copied_run", "overlap"))
    assert copied["n"] == 3
    assert copied["real"] == 11  # all notes of a bar of a scale: those of other keys
    assert 0 <= overlap["value"] <= 1
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
    class Wants(TokenDecoder):
        """Wants nothing but another bar."""

        def step(self, tokens: torch.Tensor | None) -> torch.Tensor:
            logits = torch.zeros(1, EVENTS.offsets["size"])
            logits[0, EVENTS.offsets["bar"]] = 9
            return logits

        def select(self, rows: torch.Tensor) -> None: ...

    grammar = Grammar(EVENTS).read(EVENTS.head(Music(np.zeros((0, 4), np.int64), 4, 4, 1, 120, 0)))
    grammar.left = 1
    decoder = Grammatical(Wants(), [grammar], Merges(EVENTS))
    assert decoder.step(None).argmax() == EVENTS.offsets["bar"]
    assert decoder.step(torch.tensor([EVENTS.offsets["bar"]])).argmax() == EVENTS.offsets["end"]


@pytest.fixture
def random_piece(model: Model) -> Music:
    return model.sample(SampleNoise(3, 0, 1), Options(bars=5, max_tokens=120, temperature=1))[0]


def test_bars_are_filled_in_between_those_that_stay(model: Model, random_piece: Music) -> None:
    events = model.writer.events
    row = model.writer.merges.merged(events.with_hole(random_piece, 1, 2))
    answers = model.sample(SampleNoise(0, 0, 3), Options(bars=9, max_tokens=60), torch.tensor(row))
    for made in answers:
        assert made.bars == 5
        for first, bars in ((0, 1), (3, 2)):
            kept, was = (m.bars_from(first, bars).notes for m in (made, random_piece))
            assert kept[:, [0, 2, 3]].tolist() == was[:, [0, 2, 3]].tolist()
    # The bars that were taken out, written behind the others, are the piece again.
    taken = [event for part in events.encode(random_piece)[2:4] for event in part]
    assert (
        events.filled(model.writer.merges.split(row), taken).notes.tolist()
        == random_piece.notes.tolist()
    )


def test_rows_with_a_hole_hold_each_bar_once(tmp_path: Path) -> None:
    config = Config(**{**example(tmp_path), "context": 100}, infill=1.0, transpose=0)
    rows, at = Data(config).train, Events(4, 4).offsets
    seen = 0
    for seed in range(40):
        tokens, target = rows[(0, seed)]["tokens"].tolist(), rows[(0, seed)]["target"].tolist()
        assert at["hole"] not in target
        assert at["fill"] not in target
        assert tokens[4] in (at["bar"], at["hole"])
        seen += at["fill"] in tokens
        if at["fill"] in tokens:
            behind = tokens[tokens.index(at["fill"]) :]
            assert behind.count(at["bar"]) == tokens.count(at["hole"])
            assert at["end"] in target
    assert seen > 10


@pytest.mark.parametrize("size", [0, 300])
def test_conditions_are_in_the_head_of_every_piece(size: int) -> None:
    torch.manual_seed(0)
    events = Events(4, 4, 2)
    merges = Merges.learn(events, map(events.row, map(crowded, range(9))), size)
    spec = MusicSpec(64, 4, 4, ("jigs", "reels"), merges.pairs)
    model = Model(load_family("music_lm").Config.tiny(), spec).eval()
    asked = Options(bars=1, max_tokens=30, key="F# minor", tempo=97, density=2.2, label="reels")
    for piece in model.sample(SampleNoise(0, 0, 4), asked):
        assert (KEYS[piece.key], piece.tempo, piece.label) == ("F# minor", 96, 1)
    with pytest.raises(InputError, match="label=waltz"):
        model.sample(SampleNoise(0, 0, 1), Options(label="waltz"))
    # what `aigc sample` asks before, and writes into samples.json
    labels = model.labels_of(Options(label="reels"), 0, 2)
    assert labels is not None
    assert labels.tolist() == [1, 1]
    assert model.labels_of(Options(), 0, 2) is None
    with pytest.raises(InputError, match="label=waltz"):
        model.labels_of(Options(label="waltz"), 0, 1)
    with pytest.raises(InputError, match="a piece that is given has its own"):
        model.sample(SampleNoise(0, 0, 1), Options(key="C major"), torch.tensor([1, 8, 30, 50]))


def test_labels_are_those_of_folders_or_of_names(tmp_path: Path) -> None:
    for root, name in enumerate(("jigs/jigs1", "jigs/jigs2", "reels/reels1", "reels/reels2")):
        path = tmp_path / f"{name}.mid"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(scale_file(root))
    for labels in ("folders", "names"):
        data = Data(Config(train=str(tmp_path), val=str(tmp_path), labels=labels))
        assert data.spec.labels == ("jigs", "reels")
        assert [piece.label for piece in data.pieces["data.train"].music] == [0, 0, 1, 1]
    with pytest.raises(DataError, match="give 1 labels"):
        Data(Config(train=str(tmp_path / "jigs"), val=str(tmp_path), labels="names"))


def test_what_is_asked_is_counted_and_bars_filled_in(aigc, here: Path, trained: str) -> None:
    made = aigc("sample", trained, "-n", "2", "--out", "made", "bars=2", "key=C major", "density=2")
    assert made.code == 0, made.err
    assert "key=C major: " in made.out + made.err
    assert "of 2 pieces are so" in made.out + made.err
    (here / "song.mid").write_bytes(scale_file(2, bars=8))
    fill = ("sample", trained, "--input", "song.mid", "read.bars=1")
    outside = aigc(*fill, "--out", "o", "read.fill=9-9", "read.start=9")
    assert outside.code == 2
    assert "read.fill=9-9 is outside the piece: song.mid has 8 bars" in outside.err
    among = aigc(*fill, "--out", "o", "read.fill=3-4")
    assert among.code == 2
    assert "bars 1 to 1 are read" in among.err
    filled = aigc(*fill, "--out", "filled", "read.fill=1-1", "--json")
    assert filled.code == 0, filled.err
    assert filled.json["items"][0]["bars"] == 1


@pytest.mark.parametrize("arch", ["llama", "lstm"])
@pytest.mark.parametrize("kind", ["frames", "midi"])
def test_frames_and_merges_train_resume_exactly_and_go_on_from_files(
    aigc, here: Path, kind: str, arch: str
) -> None:
    recipe = example_recipe("music_lm", here / "data").as_dict()
    recipe["data"] = load_data_kind(kind).example(here / "data")
    recipe["data"] |= {"vocab_size": 300} if kind == "midi" else {}
    recipe["model"] |= {"arch": arch, "dropout": 0.1}
    (here / "f.yaml").write_text(yaml.safe_dump(recipe))
    assert aigc("train", "f.yaml", "--out", "whole", "--quiet").code == 0
    assert aigc("train", "f.yaml", "--out", "cut", "trainer.max_steps=2", "--quiet").code == 0
    assert aigc("train", "f.yaml", "--resume", "cut", "--quiet", "trainer.workers=2").code == 0
    whole, cut = (load(here / f"{name}/checkpoints/last.ckpt") for name in ("whole", "cut"))
    for part in ("weights", "ema", "optimizers"):
        assert_same(whole[part], cut[part], part)
    found = aigc("evaluate", "whole", "--json")
    assert {"value", "unigram", "markov"} <= set(found.json["metrics"]["loss"])
    (here / "song.mid").write_bytes(scale_file(2, bars=2))
    more = ("sample", "whole", "--input", "song.mid", "--json", "read.bars=1", "bars=2")
    made = aigc(*more, "--out", "more")
    assert made.code == 0, made.err
    assert made.json["items"][0]["bars"] == 3
    hole = aigc(*more, "--out", "hole", "read.fill=1-1")
    if kind == "midi":
        assert whole["spec"]["merges"]
        assert hole.json["items"][0]["bars"] == 1
        (here / "data/01 scale in C sharp.mid").write_bytes(scale_file(5, bars=9))
        on = aigc("train", "f.yaml", "--resume", "cut", "--accept-changed-data", "--quiet")
        assert on.code == 2
        assert "the changed data give another merges, and the weights know the old one" in on.err
        return
    assert hole.code == 2
    assert "a model of frames only goes on" in hole.err
