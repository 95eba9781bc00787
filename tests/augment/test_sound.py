"""Recordings and pieces of music: each operation does what it says, and files are read back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from aigc_cli.augment import audio, music
from aigc_cli.augment._augmentation import Draw
from aigc_cli.augment._files import Item
from aigc_cli.augment.audio import higher, moved, stretched
from aigc_cli.data.midi import scale_file
from aigc_cli.data.recordings import tone
from aigc_cli.media.audio import Sound, read_audio, sound_bytes
from aigc_cli.media.events import Music
from aigc_cli.media.midi import DRUMS, Midi, midi_bytes, read_midi
from aigc_cli.recipe.load import recipe_from_text
from aigc_cli.run.augment import augment
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.train import train
from tests.augment.conftest import Aigc, rows

RATE = 8_000
SILENT = {"gain": 0.0, "shift": 0.0, "noise": 100.0, "stretch": 0.0, "pitch": 0.0}
STILL = {"transpose": 0, "tempo": 0.0, "velocity": 0.0, "drop_voice": 0.0}


def hertz(x: torch.Tensor) -> float:
    """The loudest frequency."""
    spectrum = torch.fft.rfft(x * torch.hann_window(len(x))).abs()
    return float(spectrum.argmax()) * RATE / len(x)


def sine(seconds: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * torch.pi * 440 * torch.arange(round(RATE * seconds)) / RATE) * 0.5


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.3])
def test_slower_is_longer_and_as_high(factor: float) -> None:
    y = stretched(sine(), factor)
    assert len(y) == round(RATE * factor)
    assert hertz(y[1000:-1000]) == pytest.approx(440, rel=0.01)
    assert float(y[1000:-1000].abs().max()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("semitones", [-4, 3])
def test_higher_is_as_long(semitones: int) -> None:
    y = higher(sine(), 2 ** (semitones / 12))
    assert len(y) == RATE
    assert hertz(y[1000:-2500]) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)


def test_what_is_moved_leaves_silence() -> None:
    x = torch.arange(1.0, 6.0)
    assert moved(x, 2).tolist() == [0, 0, 1, 2, 3]
    assert moved(x, -2).tolist() == [3, 4, 5, 0, 0]


def test_noise_and_gain_are_as_loud_as_they_say() -> None:
    x = Sound(sine().numpy(), RATE)
    options = audio.Options(**{**SILENT, "noise": 99.0})
    done: list[dict[str, object]] = []
    options = audio.Options(**{**SILENT, "noise": 5.0})
    y = audio.Augmentation(options).changed(x, Draw(0, 3), done)
    noise = y.samples - x.samples
    below = 20 * np.log10(np.sqrt(np.mean(x.samples**2)) / np.sqrt(np.mean(noise**2)))
    assert below == pytest.approx(done[0]["below_db"], abs=0.5)
    loud = audio.Augmentation(audio.Options(**{**SILENT, "gain": 40.0}))
    for number in range(6):
        done = []
        y = loud.changed(x, Draw(0, number), done)
        assert float(np.abs(y.samples).max()) <= 1
        np.testing.assert_allclose(y.samples, x.samples * done[0]["factor"], atol=1e-3)


@pytest.fixture
def piece() -> Midi:
    """A melody, a bass and drums."""
    rows = [(t * 480, 400, 60 + t, 0, 80) for t in range(8)]
    rows += [(t * 960, 900, 40 + t, 33, 90) for t in range(4)]
    rows += [(t * 480, 100, 36, DRUMS, 100) for t in range(8)]
    return read_midi(midi_bytes(np.array(rows), 100.0, (4, 4)), "piece")


def changed(piece: Midi, number: int, **options: float) -> tuple[Midi, dict[str, object]]:
    done: list[dict[str, object]] = []
    made = music.Augmentation(music.Options(**{**STILL, **options}))
    found = made.changed(piece, Draw(0, number), done)
    return found, done[0] if done else {}


def test_transposing_moves_all_but_drums(piece: Midi) -> None:
    seen = set()
    for number in range(12):
        found, operation = changed(piece, number, transpose=5)
        by = operation["semitones"]
        drums = piece.notes[:, 3] == DRUMS
        assert (found.notes[drums] == piece.notes[drums]).all()
        assert (found.notes[~drums, 2] - piece.notes[~drums, 2] == by).all()
        seen.add(by)
    assert len(seen) > 4
    high = np.array([[0, 10, 126, 0, 64], [0, 10, 3, 0, 64]])
    pitches, by = music.transposed(high, 5)
    assert (pitches.tolist(), by) == ([127, 4], 1)


def test_tempo_velocity_and_voices(piece: Midi) -> None:
    found, operation = changed(piece, 1, tempo=0.5)
    assert found.tempo == pytest.approx(piece.tempo * float(str(operation["factor"])), rel=1e-3)
    assert (found.notes == piece.notes).all()
    found, _ = changed(piece, 1, velocity=0.5)
    assert (found.notes[:, :4] == piece.notes[:, :4]).all()
    assert (found.notes[:, 4] != piece.notes[:, 4]).any()
    assert 1 <= found.notes[:, 4].min() <= found.notes[:, 4].max() <= 127
    found, operation = changed(piece, 1, drop_voice=1.0)
    assert set(found.notes[:, 3]) == {0, 33, DRUMS} - {operation["program"]}


@pytest.mark.parametrize("modality", ["audio", "music"])
def test_a_set_of_files_is_copied_varied_and_read_back(tmp_path: Path, modality: str) -> None:
    for label, root in (("a", 0), ("b", 20)):
        (tmp_path / "d" / label).mkdir(parents=True)
        for number in range(8 if label == "a" else 4):
            path = tmp_path / "d" / label / f"{number}"
            if modality == "audio":
                sound = tone(220 * 1.05 ** (root + number), 0.15)
                path.with_suffix(".wav").write_bytes(sound_bytes(sound))
            else:
                path.with_suffix(".mid").write_bytes(scale_file(root + number, bars=2))
    request = Augmenting(
        str(tmp_path / "d"), tmp_path / "one", balance="classes", factor=2, workers=0
    )
    record = augment(request)
    lines = rows(tmp_path / "one")
    counts = Counter(line["label"] for line in lines if line["split"] == "train")
    assert counts == {"a": 14, "b": 14} == record["after"]
    originals = {path.read_bytes() for path in (tmp_path / "d").rglob("*.*")}
    made = {"audio": audio, "music": music}[modality]
    again = made.Augmentation(made.Options()).open(str(tmp_path / "one/train"), "DATA", ())
    digests = {again.digest(again.read(number)) for number in range(len(again))}
    for line in lines:
        data = (tmp_path / "one" / line["path"]).read_bytes()
        assert (data in originals) == (line["made"] == "copied")
        if line["split"] == "train":
            assert line["digest"] in digests  # as read back from its file


def test_a_model_of_labeled_pieces_makes_those_of_a_class(tmp_path: Path) -> None:
    """music_lm may be asked for a label; it chooses one where none is asked for."""
    for label, root in (("a", 0), ("b", 20)):
        (tmp_path / "d" / label).mkdir(parents=True)
        for number in range(6 if label == "a" else 3):
            file = scale_file(root + number, bars=2)
            (tmp_path / f"d/{label}/{number}.mid").write_bytes(file)
    text = f"""
family: music_lm
data: {{kind: midi, train: '{tmp_path / "d"}', labels: folders, context: 24}}
model: {{num_layers: 1, num_heads: 1, dim: 8, hidden_dim: 8}}
sample: {{bars: 2, max_tokens: 60, temperature: 1.0, top_p: 1.0}}
trainer: {{max_steps: 1, global_batch: 2, precision: fp32, preview_every: 9}}
"""
    train(recipe_from_text(text), out=tmp_path / "run")
    request = Augmenting(
        str(tmp_path / "d"), tmp_path / "o", sources=(str(tmp_path / "run"),), balance="classes",
        workers=0, device="cpu",
    )  # fmt: skip
    augment(request)
    made = [line for line in rows(tmp_path / "o") if line["made"] == "generated"]
    assert {line["label"] for line in made} == {"b"}
    for line in made:
        data = (tmp_path / "o" / line["path"]).read_bytes()
        assert len(read_midi(data, line["path"]).notes) >= 4


def test_a_piece_without_notes_is_dropped_and_ends_nothing() -> None:
    made = music.Augmentation(music.Options())
    empty = made.thing_of_made(Music(np.zeros((0, 4), np.int64), 4, 4, 2, 96, 0))
    assert made.unfit(empty) == "of fewer than four notes"
    assert not made.features(empty).any()


def test_files_that_cannot_be_read_are_named(aigc: Aigc, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for number in range(4):
        (tmp_path / f"d/{number}.mid").write_bytes(scale_file(number, bars=1))
    (tmp_path / "d/bad.mid").write_bytes(b"MThd nonsense")
    (tmp_path / "d/gone.mid").symlink_to("nowhere.mid")
    (tmp_path / "d/folder.mid").mkdir()
    code, out, err = aigc("augment", "d", "--out", "o")
    assert code == 2
    assert "2 of 6 items cannot be used: bad.mid" in err
    assert "gone.mid: is empty, or a link to a file that is not there" in err
    assert "Traceback" not in out + err
    assert aigc("augment", "d", "--out", "o", "--on-error", "skip")[0] == 0
    code, _, err = aigc("augment", "d", "--out", "p", "data.label_pattern=x(")
    assert code == 2
    assert "label_pattern" in err


def test_recordings_are_near_to_what_is_like_them() -> None:
    made = audio.Augmentation(audio.Options())

    def features(hertz: float, seconds: float) -> torch.Tensor:
        data = sound_bytes(tone(hertz, seconds))
        return made.features(Item(data, ".wav", read_audio(data, "x")))

    same = torch.dist(features(220, 0.3), features(222, 0.3))
    other = torch.dist(features(220, 0.3), features(1200, 0.3))
    assert same < other / 2
