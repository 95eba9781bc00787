"""Distances of sets of recordings in the features of networks: of a file, and of a package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from aigc_cli.cli import invoke
from aigc_cli.data.recordings import tone
from aigc_cli.errors import CheckpointError, MissingError
from aigc_cli.media.audio import Sound, sound_bytes
from aigc_cli.metrics.audio._voice import Voices
from aigc_cli.nn.voice import BANDS, FRAMES, HOP, SAMPLE_RATE, VoiceEncoder, filters, stretches
from aigc_cli.recipe.example import example_recipe
from aigc_cli.run.convert import voices
from aigc_cli.run.train import train


def test_bands_are_those_of_slaney() -> None:
    reference = pytest.importorskip("transformers.audio_utils").mel_filter_bank(
        201, BANDS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE, norm="slaney", mel_scale="slaney"
    )
    np.testing.assert_allclose(filters().numpy(), reference, atol=1e-8)


@pytest.mark.parametrize(
    ("seconds", "count"), [(0.2, 1), (1.6, 1), (1.61, 2), (1.6 + 0.77, 2), (5.0, 6)]
)
def test_stretches_cover_a_recording(seconds: float, count: int) -> None:
    time = torch.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    samples = 0.5 * torch.sin(2 * torch.pi * 300 * time * (1 + time))
    found = stretches(samples)
    assert found.shape == (count, FRAMES, BANDS)
    torch.testing.assert_close(stretches(samples / 1000)[0], stretches(samples / 100)[0])
    shifted = stretches(samples[77 * HOP :])
    torch.testing.assert_close(found[1:, 2:-2], shifted[: count - 1, 2:-2])


def test_silence_is_a_voice_like_any(tmp_path: Path) -> None:
    made = VoiceEncoder()(stretches(torch.zeros(SAMPLE_RATE)))
    assert made.shape == (1, 256)
    assert made.isfinite().all()


def test_a_package_and_a_file_say_how_far_sets_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIGC_MODELS", str(tmp_path / "models"))
    for name, hertz in (("low", 200), ("high", 900)):
        Path(name).mkdir()
        for n in range(3):
            Path(name, f"{n}.wav").write_bytes(sound_bytes(tone(hertz * 1.03**n, 0.2, 8000)))
    with pytest.raises(MissingError) as caught:
        Voices()
    assert caught.value.hint == "aigc model get resemblyzer"
    torch.manual_seed(0)
    weights = {name: 6 * tensor for name, tensor in VoiceEncoder().state_dict().items()}
    torch.save({"step": 1, "model_state": {**weights, "bias": torch.ones(1)}}, "published.pt")
    Path("models/resemblyzer").mkdir(parents=True)
    voices(Path("published.pt"), Path("models/resemblyzer"))
    sound = tone(300, 0.5, 8000)
    (quiet,) = Voices().see([Sound(sound.samples / 500, 8000)])
    assert quiet.pooled.shape == (1, 256)
    assert float(quiet.pooled.norm()) == pytest.approx(1)
    train(example_recipe("audio_classifier", tmp_path / "data", max_steps=1), out=tmp_path / "run")
    for extractor in ("resemblyzer", "run/checkpoints/last.ckpt"):
        values = []
        for other in ("low", "high"):
            words = ["evaluate", "--generated", "low", "--reference", other, "--metric", "fad"]
            assert invoke([*words, f"extractor={extractor}", "--json"]) == 0
            out = capsys.readouterr().out
            values.append(json.loads(out)["metrics"]["fad"]["value"])
            named = "resemblyzer 39373b86598f" if extractor == "resemblyzer" else "audio_classifier"
            assert named in out
        assert values[0] == pytest.approx(0, abs=1e-5)
        assert values[1] > 1e-4


def test_other_weights_are_no_encoder_of_voices(tmp_path: Path) -> None:
    save_file({"lstm.weight": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not the weights of an encoder of voices"):
        voices(tmp_path / "x.safetensors", tmp_path)
