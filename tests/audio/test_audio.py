"""Recordings in and out: against other readers, closed forms, and files that are no recordings."""

from __future__ import annotations

import io
import json
import struct
import wave
import zipfile
from contextlib import suppress
from math import log10
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.data.recordings import Config, Data, at_peak, example, read_recordings, tone
from aigc_cli.errors import DataError
from aigc_cli.media.audio import Sound, power, read_audio, sound_bytes, spectrogram
from aigc_cli.modalities import find_modality, recognized
from aigc_cli.modalities._judging import judging_of_files
from aigc_cli.nn.mel import filters, mel
from aigc_cli.nn.mulaw import compress, expand, from_levels, to_levels
from aigc_cli.sampling.markov import Markov
from aigc_cli.specs.audio import AudioSpec


def written(values: np.ndarray, rate: int = 8000, **form: str) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, values, rate, **{"format": "WAV", **form})
    return data.getvalue()


@pytest.mark.parametrize("levels", [4, 256, 65536])
def test_mu_law_goes_around_exactly_on_its_levels(levels: int) -> None:
    every = torch.arange(levels)
    assert torch.equal(to_levels(from_levels(every, levels), levels), every)
    assert from_levels(every[:1], levels) == -1
    assert from_levels(every[-1:], levels) == 1


@given(st.floats(-1, 1))
def test_mu_law_is_off_by_less_than_half_a_level(x: float) -> None:
    one = torch.tensor([x], dtype=torch.float64)
    assert abs(float(expand(compress(one)) - one)) < 1e-12
    back = compress(from_levels(to_levels(one, 256), 256).double())
    assert abs(float(back - compress(one))) <= 1 / 255 + 1e-6


FORMS = [
    ("WAV", "PCM_16", 1e-4), ("WAV", "PCM_24", 1e-6), ("WAV", "FLOAT", 1e-7),
    ("WAV", "PCM_U8", 1e-2), ("FLAC", "PCM_24", 1e-6), ("AIFF", "PCM_16", 1e-4),
    ("OGG", "VORBIS", 0.1), ("MP3", None, 0.1),
]  # fmt: skip


@pytest.mark.parametrize(("form", "subtype", "error"), FORMS)
def test_files_of_every_form_are_read_as_one_channel(
    form: str, subtype: str | None, error: float
) -> None:
    left, right = tone(440, 0.5).samples, tone(660, 0.5).samples
    stereo = np.stack([left, right], 1)
    found = read_audio(written(stereo, 8000, format=form, subtype=subtype), "x")
    assert found.sample_rate == 8000
    n = min(len(found.samples), len(left))
    np.testing.assert_allclose(found.samples[:n], stereo.mean(1)[:n], atol=error)


@pytest.mark.parametrize(("rate", "to"), [(44_100, 8_000), (8_000, 16_000), (22_050, 22_050)])
def test_another_rate_keeps_pitch_loudness_and_length(rate: int, to: int) -> None:
    t = np.arange(rate) / rate
    sound = Sound(np.float32(0.5 * np.sin(2 * np.pi * 1000 * t)), rate).at(to)
    assert len(sound.samples) == to
    middle = sound.samples[to // 4 : -to // 4]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.01)
    spectrum = np.abs(np.fft.rfft(middle))
    assert spectrum.argmax() * to / len(middle) == pytest.approx(1000, abs=4)


GOOD = written(tone(440, 0.1).samples)
NAN = written(np.array([0, np.nan, 0.5], np.float32), subtype="FLOAT")
AT = GOOD.index(b"data") + 4
DECLARED = (
    b"RF64"
    + b"\xff" * 4
    + b"WAVE"
    + b"ds64"
    + struct.pack("<IQQQI", 28, 1 << 33, 1 << 33, 1 << 32, 0)
)
BAD = {
    "nothing": (b"", "is no audio file"),
    "random bytes": (bytes(range(256)) * 4, "is no audio file"),
    "no samples": (written(np.zeros(0)), "has no samples"),
    "NaN": (NAN, "sample 1 is no number"),
    "cut off": (GOOD[:-200], "1,600 bytes of samples are declared, 1,400 there"),
    "cut header": (GOOD[:40], "without samples, or cut off"),
    "8 GB declared": (DECLARED + GOOD[12:AT] + b"\xff" * 4 + GOOD[AT + 4 :], "8,589,934,592 bytes"),
    "cut FLAC": (written(np.random.default_rng(0).normal(0, 0.1, 9000), format="FLAC")[:5000], ""),
    "rate of 1 Hz": (GOOD[:24] + struct.pack("<I", 1) + GOOD[28:], "has 1 Hz"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_sentence(case: str) -> None:
    data, says = BAD[case]
    with pytest.raises(DataError) as caught:
        read_audio(data, "x.wav")
    assert says in caught.value.message
    assert caught.value.message.startswith("x.wav: ")
    assert "\n" not in caught.value.message
    assert "object at" not in caught.value.message


def test_huge_lengths_take_no_memory() -> None:
    """The 36 bits of FLAC can declare 68 billion samples."""
    data = bytearray(written(tone(440, 0.1).samples, format="FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    with pytest.raises(DataError, match=r"declares 68,719,476,735 samples of 1 channels"):
        read_audio(bytes(data), "x.flac")


@given(st.binary(min_size=1, max_size=40), st.integers(0, 200))
@settings(deadline=None, max_examples=100)
def test_damage_is_never_more_than_a_sentence(damage: bytes, place: int) -> None:
    whole = bytearray(GOOD)
    whole[place : place + len(damage)] = damage
    with suppress(DataError):
        assert np.isfinite(read_audio(bytes(whole), "x.wav").samples).all()


def test_what_is_written_opens_elsewhere_and_says_what_made_it() -> None:
    sound = tone(440, 0.2)
    data = sound_bytes(sound, {"seed": 3, "what": "ünï"})
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 8000)
        assert file.getnframes() == len(sound.samples)
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert json.loads(file.comment) == {"aigc": {"seed": 3, "what": "ünï"}}
    np.testing.assert_allclose(read_audio(data, "x").samples, sound.samples, atol=2 / 32767)
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8


def test_a_spectrogram_shows_where_a_tone_is() -> None:
    t = np.arange(8000) / 8000
    shown = spectrogram(Sound(np.float32(np.sin(2 * np.pi * 1000 * t)), 8000))
    assert (shown.height, shown.width) == (256, 8001 // 64 + 1)
    brightest = shown.pixels[:, shown.width // 2].astype(int).sum(1).argmax()
    assert (256 - brightest) / 256 * 4000 == pytest.approx(1000, abs=16)
    total = power(np.float32(np.sin(2 * np.pi * 1000 * t)), 64)[40].sum()
    assert 10 * log10(total) == pytest.approx(10 * log10(512**2 / 4 * 0.375), abs=0.1)  # Parseval
    spectrogram(Sound(np.zeros(3, np.float32), 8000))


def test_mel_bands_are_those_of_the_formula() -> None:
    assert float(mel(torch.tensor(1000.0))) == pytest.approx(1000, abs=0.1)
    weights = filters(10, 129, 8000)
    assert weights.shape == (129, 10)
    assert (weights.max(0).values > 0.5).all()
    assert (weights.sum(1)[8:100] > 0.99).all()  # triangles that overlap by half


def test_a_chain_costs_what_its_counts_say() -> None:
    row = np.array([0, 1, 0, 1, 0, 2])
    chain = Markov([row], 3, 1)
    p0 = [(3 + 3 / 3) / 9, (2 + 3 / 3) / 9, (1 + 3 / 3) / 9]  # 6 symbols, 3 kinds
    assert chain.probabilities(np.array([0]))[0] == pytest.approx(p0[0])
    # After 0: 1 twice, 2 once, two kinds. After 1: always 0.
    after = [(0 + 2 * p0[0]) / 5, (2 + 2 * p0[1]) / 5, (1 + 2 * p0[2]) / 5]
    np.testing.assert_allclose(chain.after(np.array([2, 0])), after)
    assert chain.probabilities(np.array([0, 1, 0]))[2] == pytest.approx((2 + p0[0]) / 3)
    assert chain.after(np.array([2])).sum() == pytest.approx(1)


@given(st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=20), min_size=1, max_size=3))
@settings(deadline=None)
def test_chains_are_distributions_and_rows_their_products(rows: list[list[int]]) -> None:
    chain = Markov([np.array(row) for row in rows], 5, 2)
    row = np.array(rows[0])
    each = [chain.after(row[:t]) for t in range(len(row))]
    assert np.allclose(np.sum(each, 1), 1)
    np.testing.assert_allclose(
        chain.probabilities(row), [p[x] for p, x in zip(each, row, strict=True)]
    )


def test_one_bad_file_costs_one_file(tmp_path: Path) -> None:
    config = example(tmp_path / "in")
    (tmp_path / "in/high/bad.wav").write_bytes(GOOD[:60])
    found = read_recordings(config["train"])
    assert len(found.names) == 8
    assert list(found.skipped) == ["high/bad.wav"]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as whole:
        whole.writestr("a/7_ann_0.wav", GOOD)
        whole.writestr("a/8_ann_0.WAV", written(tone(440, 0.1, 44_100).samples, 44_100))
        whole.writestr("a/.hidden.wav", GOOD)
        whole.writestr("a/7_ann_1.flac", written(tone(440, 0.1).samples, format="FLAC"))
    where = {"train": str(tmp_path / "all.zip/a"), "sample_rate": 8000, "length": 800}
    data = Data(Config(**where, val="10%", label_pattern=r"/(\d)_"))
    assert data.spec.labels == ("7", "8")
    assert data.report["data.val"].names == ["a/7_ann_0.wav"]
    with pytest.raises(DataError, match=r"data.val: has class .*7_ann_0', which is not trained"):
        Data(Config(**where, val="10%", label_pattern=r"/(.*)\."))
    with pytest.raises(DataError, match=r"finds no class in 'a/7_ann_0.wav' \(1 of 1 names\)"):
        Data(Config(**where, label_pattern="(flac)"))
    with pytest.raises(DataError, match=r"none of 1 audio files can be used: bad.wav is cut off"):
        read_recordings(str(tmp_path / "in/high/bad.wav"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are no audio files"):
        read_recordings(str(tmp_path / "empty"))


def test_every_sample_is_learned_once(tmp_path: Path) -> None:
    config = {**example(tmp_path), "length": 100, "context": 30}
    data = Data(Config(**config))
    held = read_recordings(config["train"], 8000).some([0, 4], skipped=False)
    heard = [
        item["audio"][item["counted"] > 0].numpy()
        for item in (data.val[i] for i in range(len(data.val)))
    ]
    np.testing.assert_array_equal(
        np.concatenate(heard), np.concatenate([sound.samples for sound in held.sounds])
    )
    second = data.val[1]
    np.testing.assert_array_equal(second["audio"][:30], data.val[0]["audio"][100:130])
    assert not data.val[0]["audio"][:30].any()  # silence before the file
    for key in [(0, 1), (3, 9), (3, 10)]:
        item = data.train[key]
        assert item["audio"].shape == (130,)
        assert item["label"] in (0, 1)
    batch = data.val.collate([data.val[len(data.val) - 1]])
    assert batch["audio"].shape[1] == 30 + data.val.lengths[-1]
    assert float(batch["unigram"]) > 0
    assert data.report["data.val"].classes == {"high": 1, "low": 1}


def test_as_loud_as_fits() -> None:
    assert np.abs(at_peak(tone(440, 0.1)).samples).max() == 1
    assert not at_peak(Sound(np.zeros(4, np.float32), 8000)).samples.any()


def test_sound_beside_midi_is_music(tmp_path: Path) -> None:
    find_modality("audio").example_files(tmp_path)
    assert recognized(str(tmp_path)).name == "audio"
    assert judging_of_files(tmp_path / "tone 220.wav").name == "audio"
    find_modality("music").example_files(tmp_path)
    assert recognized(str(tmp_path)).name == "music"


def test_sets_of_recordings_are_compared_without_weights(tmp_path: Path) -> None:
    """A set is at distance 0 from itself, and nearer to its like than to another pitch."""
    from aigc_cli.metrics._frechet import fid
    from aigc_cli.metrics.audio._mel import BANDS, MelStatistics

    def features(hertz: float) -> torch.Tensor:
        sounds = [tone(hertz * 1.03**n, 0.1 + 0.01 * n, 8000) for n in range(4)]
        return torch.cat([found.pooled for found in MelStatistics().see(sounds)])

    low, same, high = features(200), features(206), features(800)
    assert low.shape == (4, 2 * BANDS)
    assert fid(low, low) == pytest.approx(0, abs=1e-6)
    assert fid(low, same) < fid(low, high) / 4


def test_a_classifier_embeds_whole_recordings_at_its_own_rate() -> None:
    from aigc_cli.models.audio import audio_classifier

    torch.manual_seed(0)
    spec = AudioSpec(8000, 256, 16, 256, ("high", "low"))
    model = audio_classifier.Model(audio_classifier.Config.tiny(), spec).eval()
    sound = tone(400, 512 / 8000, 8000)
    features, logits = model.embed([sound, Sound(sound.samples[:256], 8000)])
    assert features.shape == (2, 8)
    assert logits.shape == (2, 2)
    second = model.embed([Sound(sound.samples[256:], 8000)])[0]
    torch.testing.assert_close(features[0], (features[1] + second[0]) / 2)
    upsampled = model.embed([sound.at(16000)])[0]
    torch.testing.assert_close(upsampled[0], features[0], atol=0.05, rtol=0.1)
