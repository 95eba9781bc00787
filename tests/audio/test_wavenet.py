"""WaveNet against naive sampling, closed forms, and sound that is easy to learn."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from aigc_cli.data.recordings import Recordings, Stretches, tone
from aigc_cli.errors import InputError
from aigc_cli.models.audio.wavenet import (
    Config,
    Model,
    Options,
    level_nats,
    mixture_logits,
)
from aigc_cli.nn.mulaw import on_scale, to_levels
from aigc_cli.nn.wavenet import Cache, WaveNet, hats
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.audio import AudioSpec

SPEC = AudioSpec(8000, 64, 0, 256, ("a", "b"))


def net(classes: int = 2, points: int = 0) -> WaveNet:
    torch.manual_seed(0)
    made = WaveNet(
        channels=6, skip=9, dilations=[1, 2, 4, 8] * 2, outputs=5, classes=classes, points=points
    )
    for weight in made.parameters():
        weight.data += 0.2 * torch.randn_like(weight)
    return made


@pytest.mark.parametrize("points", [0, 5])
@pytest.mark.parametrize("classes", [0, 2])
@pytest.mark.parametrize("before", [0, 1, 7, 31, 80])
@torch.no_grad()
def test_the_cache_gives_what_the_whole_row_gives(before: int, classes: int, points: int) -> None:
    model, label = net(classes, points), torch.tensor([1, 0, 1])
    y = torch.rand(3, before + 40) * 2 - 1
    place = torch.rand(3, before + 40)
    whole = model(y, label, place)
    cache = Cache(model, label, y[:, :before], place[:, :before])
    times = range(before, y.shape[1])
    steps = torch.stack([cache.step(y[:, t], place[:, t]) for t in times], 1)
    torch.testing.assert_close(steps, whole[:, before:], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_what_a_class_tells_the_layers_is_linear_between_points() -> None:
    torch.testing.assert_close(
        hats(torch.tensor([0.0, 0.1, 0.5, 0.75, 1.0]), 5),
        torch.tensor([
            [1, 0, 0, 0, 0], [0.6, 0.4, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1],
        ]),
    )  # fmt: skip
    model, y = net(2, 3), torch.rand(1, 40)
    middle, changed = torch.full((1, 40), 0.5), torch.tensor([1])
    before = model(y, changed, middle)
    width = model.course.embedding_dim // 3
    model.course.weight[1, 2 * width :] += 1  # at the end
    torch.testing.assert_close(model(y, changed, middle), before)
    assert not torch.allclose(model(y, changed, middle + 0.25), before)
    model.course.weight[0] += 1  # of another class
    torch.testing.assert_close(model(y, changed, middle), before)


@torch.no_grad()
def test_an_output_depends_on_the_receptive_field_and_nothing_later() -> None:
    model = net(0)
    y = torch.rand(1, 60)
    changed = y.clone()
    changed[0, 20] += 0.5
    differs = (model(y) != model(changed)).any(-1)[0]
    assert model.receptive == 31
    assert not differs[:20].any()
    assert differs[20]
    assert differs[20 + 30]
    assert not differs[20 + 31 :].any()


@pytest.mark.parametrize("levels", [4, 256])
def test_a_mixture_of_logistics_is_a_distribution_over_levels(levels: int) -> None:
    raw = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)) * 2
    log_p = mixture_logits(raw, levels)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3))
    every = torch.arange(levels).expand(3, -1)
    direct = level_nats(raw[:, None].expand(-1, levels, -1), every, levels)
    torch.testing.assert_close(-direct, log_p, atol=2e-4, rtol=1e-4)
    # One wide logistic around 0: the middle of four levels has sigmoid(1/3 e^1) - 1/2 each.
    one = torch.tensor([[0.0, 0.0, -1.0]])
    p = mixture_logits(one, 4).exp()[0]
    assert float(p[1]) == pytest.approx(1 / (1 + np.exp(-2 / 3 * np.e)) - 0.5, abs=1e-5)
    torch.testing.assert_close(p, p.flip(0))


@pytest.mark.parametrize("head", ["softmax", "logistic"])
def test_nats_are_those_of_the_levels_and_of_no_padding(head: str) -> None:
    torch.manual_seed(0)
    model = Model(Config.tiny(head=head), SPEC)
    audio = torch.rand(2, 50) - 0.5
    counted = torch.ones(2, 50)
    counted[1, 20:] = 0
    batch = {"audio": audio, "counted": counted, "label": torch.tensor([0, 1])}
    level = to_levels(audio, 256)
    y = on_scale(torch.nn.functional.pad(level[:, :-1], (1, 0), value=model.silence), 256)
    raw = model.net(y, batch["label"]).reshape(100, -1)
    p = model.probabilities(model.log_probabilities(raw), 1.0).view(2, 50, 256)
    nats = -p.gather(-1, level[..., None])[..., 0].log() * counted
    torch.testing.assert_close(model.nats(batch).double(), nats.sum(1), atol=1e-3, rtol=1e-4)
    changed = {**batch, "audio": torch.where(counted > 0, audio, 0.9)}
    torch.testing.assert_close(model.nats(changed), model.nats(batch))


@pytest.mark.parametrize("head", ["softmax", "logistic"])
def test_sound_is_what_naive_sampling_gives_in_any_batch(head: str) -> None:
    torch.manual_seed(0)
    model = Model(Config.tiny(head=head), SPEC).eval()
    for weight in model.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    options = Options(seconds=0.005)
    made = model.sample(SampleNoise(3, 0, 4), options)
    alone = model.sample(SampleNoise(3, 2, 1), options)
    np.testing.assert_array_equal(made[2].samples, alone[0].samples)
    # Naively: the whole row again for each sample, drawn with the same numbers.
    uniform = SampleNoise(3, 2, 1).rand(40)
    row = torch.full((1, 1), model.silence)
    with torch.no_grad():
        for t in range(40):
            raw = model.net(on_scale(row, 256), torch.tensor([0]))[:, -1]
            p = model.probabilities(model.log_probabilities(raw), 1.0)
            row = torch.cat(
                [row, torch.searchsorted(p.cumsum(-1), uniform[:, t : t + 1].clone())], 1
            )
    np.testing.assert_array_equal(to_levels(torch.from_numpy(made[2].samples), 256), row[0, 1:])


@pytest.mark.parametrize("guidance", [0.0, 2.5])
def test_guided_sound_with_a_course_is_what_naive_sampling_gives(guidance: float) -> None:
    torch.manual_seed(0)
    spec = AudioSpec(8000, 64, 3, 256, ("a", "b"))
    model = Model(Config.tiny(points=4, label_dropout=0.5), spec).eval().double()
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    given = torch.linspace(-0.5, 0.5, 30)
    options = Options(seconds=0.005, guidance=guidance)
    made = model.sample(SampleNoise(3, 0, 4), options, given)
    alone = model.sample(SampleNoise(3, 1, 1), options, given)
    np.testing.assert_array_equal(made[1].samples, alone[0].samples)
    # Naively, and the places as the data tells them: 3 samples of context, 30 + 40 of sound.
    uniform = SampleNoise(3, 1, 1).rand(40)
    row = torch.cat([torch.full((4,), model.silence), to_levels(given, 256)])[None]
    place = (torch.arange(3 + 70) - 3).clamp(min=0).double() / 70
    with torch.no_grad():
        for t in range(40):
            y = on_scale(row, 256).double()
            now = place[None, : y.shape[1]]
            log_p = [
                model.log_probabilities(model.net(y, torch.tensor([label]), now)[:, -1])
                for label in (model.hidden, 1)
            ]
            p = ((1 - guidance) * log_p[0] + guidance * log_p[1]).softmax(-1)
            row = torch.cat([row, torch.searchsorted(p.cumsum(-1), uniform[:, t : t + 1])], 1)
    np.testing.assert_array_equal(to_levels(torch.from_numpy(made[1].samples), 256), row[0, 4:])


def test_guidance_without_hidden_classes_is_refused() -> None:
    model = Model(Config.tiny(), SPEC)
    with pytest.raises(InputError, match="trained without hidden classes"):
        model.sample(SampleNoise(0, 0, 1), Options(seconds=0.01, guidance=2))


def test_hidden_classes_learn_for_all_classes() -> None:
    model = Model(Config.tiny(label_dropout=1.0), SPEC)
    model.rand = torch.rand  # type: ignore[method-assign]
    batch = {"audio": torch.zeros(2, 20), "counted": torch.ones(2, 20), "label": torch.arange(2)}
    model.loss(batch)["loss"].backward()  # type: ignore[no-untyped-call]
    moved = model.net.classes.weight.grad.abs().sum(1) > 0  # type: ignore[union-attr]
    assert moved.tolist() == [False, False, True]


def test_places_of_a_stretch_are_those_in_its_recording() -> None:
    recordings = Recordings("x", ["one"], [tone(440, 0.0125)])  # 100 samples
    item = Stretches(recordings, AudioSpec(8000, 40, 10, 256), None)[2]
    torch.testing.assert_close(item["place"][:30], torch.arange(70, 100) / 100)
    assert float(item["place"][-1]) == 1
    first = Stretches(recordings, AudioSpec(8000, 40, 10, 256), None)[0]
    assert first["place"][:12].tolist() == pytest.approx([0] * 11 + [0.01])


def test_it_goes_on_from_a_recording() -> None:
    model = Model(Config.tiny(), SPEC).eval()
    given = torch.linspace(-0.5, 0.5, 30)
    (one,) = model.sample(SampleNoise(0, 0, 1), Options(seconds=0.01, temperature=0), given)
    assert len(one.samples) == 30 + 80
    np.testing.assert_array_equal(one.samples[:30], given)


def test_a_class_that_is_easy_is_learned() -> None:
    """Class a is quiet, class b jumps: far fewer bits than the 8 of chance, and samples obey."""
    torch.manual_seed(0)
    model = Model(Config(channels=8, skip=16, layers=3, stacks=1, lr=0.02), SPEC)
    jumps = 0.5 * (-1.0) ** torch.arange(64)
    batch = {
        "audio": torch.stack([torch.zeros(64), jumps]),
        "counted": torch.ones(2, 64),
        "label": torch.tensor([0, 1]),
    }
    optimizer = model.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.nats(batch).sum() / 128
        loss.backward()
        optimizer.step()
    assert loss.item() / log(2) < 0.5
    quiet, loud = model.sample(SampleNoise(0, 0, 2), Options(seconds=0.005, temperature=0))
    assert np.abs(quiet.samples).max() < 0.1
    np.testing.assert_allclose(loud.samples[:40], jumps[:40], atol=0.05)
