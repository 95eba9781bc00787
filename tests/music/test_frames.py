"""Frames and voices: round trips, the protocol of the literature, the two heads, bad sources."""

from __future__ import annotations

import gzip
import json
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import default_collate

from aigc_cli.data.frames import Config, Data, Roll, Rows, statistics, transposed
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.frames import (
    KEYS,
    SILENCE,
    VOICES,
    frames_of,
    music_of,
    music_of_voices,
    sounding,
    voices_of,
)
from aigc_cli.media.midi import midi_bytes, read_midi
from aigc_cli.models.music._frames import Bernoulli, Nade, falls
from aigc_cli.models.music.music_lm import Model, Options
from aigc_cli.recipe.load import load_recipe
from aigc_cli.registry import load_family
from aigc_cli.run.inputs import check_training
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.music import FramesSpec

BARS = st.integers(1, 3)
SPEC = FramesSpec(12, 1, 4, 90, (0.1,) * KEYS, (0.1,) * 2 * KEYS)


@given(BARS, st.integers(0, 2**32), st.floats(0, 0.2))
@settings(deadline=None, max_examples=30)
def test_frames_go_around_exactly(bars: int, seed: int, share: float) -> None:
    frames = np.random.default_rng(seed).random((bars * 8, KEYS)) < share
    music = music_of(frames, 2, 4, 96)
    assert music.bars == bars
    np.testing.assert_array_equal(frames_of(music), frames)
    if frames[0].any() and len(music.notes):  # a file begins with its first note
        data = midi_bytes(music.as_midi(), 96, (4, 4))
        heard = sounding(read_midi(data, "x.mid"), 2, "x.mid")
        np.testing.assert_array_equal(heard, frames[: len(heard)])
        assert not frames[len(heard) :].any()


@given(BARS, st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_voices_go_around_exactly(bars: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    grid = random.integers(55, 60, (bars * 16, len(VOICES)))
    grid[random.random(grid.shape) < 0.3] = SILENCE
    music = music_of_voices(grid, 4, 4, 90)
    np.testing.assert_array_equal(voices_of(music), grid)


def test_every_frame_but_the_first_is_counted_once() -> None:
    random = np.random.default_rng(0)
    for length in (1, 2, 9, 10, 11, 40):
        frames = random.random((length, KEYS)) < 0.1
        rows = Rows([Roll(frames)], 10)
        found = [
            row["frames"][row["counted"]].numpy() for row in map(rows.__getitem__, range(len(rows)))
        ]
        np.testing.assert_array_equal(np.concatenate(found), frames[1:])
        for row in (rows[n] for n in range(1, len(rows))):
            assert int(row["counted"].nonzero()[0]) == 5  # so many are known before it
            np.testing.assert_array_equal(row["seen"][1:, :KEYS], row["frames"][:-1])


def test_baselines_are_the_closed_forms() -> None:
    frames = np.zeros((50, KEYS), np.bool_)
    frames[::2, 40] = True  # on, off, on ...
    unigram, markov = statistics([frames])
    spec = FramesSpec(50, 1, 4, 90, unigram, markov)
    model = Model(load_family("music_lm").Config.tiny(), spec)
    batch = default_collate([Rows([Roll(frames)], 50)[0]])
    found = {k: model.summarize({n: float(v) for n, v in b.items()})["loss"]
             for k, b in model.baselines(batch).items()}  # fmt: skip
    silent = 87 * -log(1 - 1 / 52)
    assert found["unigram"] == pytest.approx(log(2) + silent, abs=1e-4)
    on, off = log(26 / 25), log(27 / 26)  # 24 times on after off, 25 times off after on
    assert found["markov"] == pytest.approx(
        (24 * -log(25 / 26) + 25 * -log(26 / 27)) / 49 + 87 * -log(1 - 1 / 51), abs=2e-4
    )
    assert on > 0 < off


def test_nade_is_a_distribution_over_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aigc_cli.models.music._frames.KEYS", 4)
    torch.manual_seed(0)
    head = Nade(3, 5)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)  # (16, 4)
    features = torch.randn(3).expand(16, 3)
    logits = head(features[None], every[None])[0]
    logits = logits.detach()
    log_p = torch.nn.functional.logsigmoid(torch.where(every > 0, logits, -logits)).sum(-1)
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-5)
    # Drawn frames come as often as they are likely.
    uniform = torch.rand(20_000, 4, dtype=torch.float64)
    with torch.no_grad():
        drawn = head.draw(features[:1].expand(20_000, 3), uniform, 1.0)
    often = torch.bincount((drawn @ torch.tensor([8.0, 4, 2, 1])).long(), minlength=16) / 20_000
    assert (often - log_p.exp()).abs().max() < 0.015


def test_bernoulli_keys_do_not_see_each_other() -> None:
    head, features = Bernoulli(3), torch.randn(1, 2, 3)
    assert torch.equal(
        head(features, torch.zeros(1, 2, KEYS)), head(features, torch.ones(1, 2, KEYS))
    )
    assert falls(torch.tensor([-1.0, 1.0]), torch.zeros(2), 0).tolist() == [0, 1]


@pytest.mark.parametrize("arch", ["llama", "classic", "lstm", "gru"])
@pytest.mark.parametrize("head", ["bernoulli", "autoregressive"])
def test_a_frame_follows_from_those_before_alone(arch: str, head: str) -> None:
    torch.manual_seed(0)
    model = Model(load_family("music_lm").Config.tiny(arch=arch, head=head), SPEC).eval()
    frames = (torch.rand(1, 12, KEYS) < 0.05).float()
    seen = torch.nn.functional.pad(frames, (0, 1)).roll(1, 1)
    seen[:, 0], later = torch.eye(KEYS + 1)[KEYS], frames.clone()
    later[:, 8:] = 1 - later[:, 8:]
    other = torch.nn.functional.pad(later, (0, 1)).roll(1, 1)
    other[:, 0] = seen[:, 0]
    with torch.no_grad():
        nats, changed = model.net(seen, frames), model.net(other, later)
    assert torch.allclose(nats[:, :8], changed[:, :8], atol=1e-4)
    assert not torch.allclose(nats[:, 8:], changed[:, 8:], atol=1e-2)


@pytest.mark.parametrize("arch", ["llama", "lstm", "gru"])
def test_what_is_drawn_with_a_cache_is_drawn_without(arch: str) -> None:
    torch.manual_seed(0)
    model = Model(load_family("music_lm").Config.tiny(arch=arch), SPEC).eval()
    options = Options(bars=2, temperature=1)
    together = model.sample(SampleNoise(3, 0, 3), options)
    alone = model.sample(SampleNoise(3, 2, 1), options)[0]
    assert together[2].notes.tolist() == alone.notes.tolist()
    assert [piece.bars for piece in together] == [2] * 3
    frames = torch.from_numpy(frames_of(alone)).float()[None]  # (1, 8, 88)
    seen = torch.nn.functional.pad(frames, (0, 1)).roll(1, 1)
    seen[:, 0] = torch.eye(KEYS + 1)[KEYS]
    noise, body = SampleNoise(3, 2, 1), model.net.body
    for t in range(8):
        with torch.no_grad():
            features = body.hidden(seen[:, : t + 1], slice(t + 1), None, t > 0)[:, -1]
            drawn = model.net.head.draw(features, noise.rand(KEYS), 1.0)
        assert torch.equal(drawn[0], frames[0, t])
    prime = torch.from_numpy(frames_of(alone)).to(torch.uint8)[:4]
    answer = model.sample(SampleNoise(0, 0, 1), Options(bars=4), prime)[0]
    assert answer.bars == 5  # beyond the context of 12 frames
    np.testing.assert_array_equal(frames_of(answer)[:4], prime.bool().numpy())
    with pytest.raises(InputError, match="bars=0"):
        model.sample(SampleNoise(0, 0, 1), Options(bars=0))


def test_pieces_are_read_of_json(tmp_path: Path) -> None:
    whole = {"train": [[[60, 64], [-1], [60]]] * 3, "valid": [[[62]] * 5], "bad": [[[130]], 3, []]}
    path = tmp_path / "pieces.json.gz"
    path.write_bytes(gzip.compress(json.dumps(whole).encode()))
    data = Data(Config(train=f"{path}:train", val=f"{path}:valid", context=8, resolution=1))
    assert data.report["data.train"].counts == {"pieces": 3, "frames": 9, "notes": 9}
    assert data.train[(0, 1)]["frames"].sum() == 3
    mixed = Data(Config(train=f"{path}:train", val=(f"{path}:valid", f"{path}:bad"), context=8))
    assert mixed.report["data.val"].skipped == {
        "bad-00000": "has pitch 130, and the keys are 21 to 108",
        "bad-00001": "is no list of frames",
        "bad-00002": "is no list of frames",
    }
    bad = {
        f"{path}:tarin": "has no 'tarin'",
        f"{path}": "names none",
        f"{path}:bad": "none of 3",
        f"{tmp_path / 'text.json'}:train": "is no JSON that can be read",
    }
    (tmp_path / "text.json").write_bytes(b"\x80 not json")
    for source, says in bad.items():
        with pytest.raises(DataError, match=says):
            Data(Config(train=source, val=f"{path}:valid"))


def test_transposed_frames_stay_on_the_piano() -> None:
    frames = np.zeros((3, KEYS), np.bool_)
    frames[:, 2] = True
    assert transposed(frames, -2)[:, 0].all()
    assert transposed(frames, -3)[:, 2].all()


def test_a_part_of_a_set_by_name_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jsb_chorales").mkdir()
    file = tmp_path / "jsb_chorales/jsb-chorales-quarter.json"
    pieces = [[[60, 64], [60, 65], [62, 65], [62]] for _ in range(4)]
    file.write_text(json.dumps({"train": pieces, "valid": pieces[:1]}))
    monkeypatch.setenv("AIGC_DATA", str(tmp_path))
    check_training("music_lm_jsb_lstm", [], None)
    recipe = load_recipe("music_lm_jsb_lstm")
    assert Data(recipe.data).report["data.train"].counts["pieces"] == 4


def test_conditions_of_frames_are_refused_and_not_ignored() -> None:
    spec = FramesSpec(8, 2, 4, 90.0, (0.1,) * 88, (0.1,) * 176)
    model = Model(load_family("music_lm").Config.tiny(arch="lstm"), spec).eval()
    with pytest.raises(InputError, match="key: a model of frames has no conditions"):
        model.sample(SampleNoise(0, 0, 1), Options(bars=1, key="C major"))
    with pytest.raises(InputError, match="label=jigs: the model knows no such label"):
        model.labels_of(Options(label="jigs"), 0, 1)
