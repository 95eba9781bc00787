"""DeepDream: the activation rises, every option does what it says, tiles equal the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models.image.deepdream import (
    Config,
    Model,
    Options,
    activation,
    octave_sizes,
    smoothed,
    zoomed,
)
from aigc_cli.nn.classifier import build
from aigc_cli.nn.features import FeatureNetwork, cnn_arch
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import AnyImageSpec

SMALL: dict[str, Any] = {"layers": ("relu2_1",), "octaves": 2, "steps": 3, "jitter": 4}


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    arch = cnn_arch(3, (4, 6), (1, 1))
    chain = build(arch)
    chain.conv2_1.bias.data.copy_(torch.tensor([0.5, 0.5, -100, 0.5, 0.5, 0.5]))  # one is blind
    made = Model(Config(), AnyImageSpec(channels=3))
    made.features = FeatureNetwork(chain, arch, "tiny")
    return made


def photo(H: int = 20, W: int = 26) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.nn.functional.interpolate(
        torch.rand(1, 3, 5, 6, generator=random) - 0.5, (H, W), mode="bicubic"
    )[0]


def dream(
    model: Model, image: Tensor | None = None, *, seed: int = 0, n: int = 1, **changes: Any
) -> Tensor:
    options = Options(**{**SMALL, **changes})
    with torch.no_grad():
        return model.sample(SampleNoise(seed, 0, n), options, photo() if image is None else image)


def seen(model: Model, image: Tensor, **changes: Any) -> float:
    with torch.no_grad():
        return float(activation(model.features, image[None], Options(**{**SMALL, **changes})))


@pytest.mark.parametrize(
    "changes",
    [{}, {"layers": ("conv1_1", "relu2_1")}, {"channels": (3,)}, {"objective": "mean"}],
    ids=str,
)
def test_what_the_layer_sees_grows(model: Model, changes: dict[str, Any]) -> None:
    (made,) = dream(model, steps=6, **changes)
    assert made.shape == photo().shape
    assert made.abs().max() <= 1
    assert seen(model, made, **changes) > 1.1 * seen(model, photo(), **changes)


def test_the_feature_network_is_no_part_of_the_weights(model: Model) -> None:
    assert not model.state_dict()
    assert not list(model.parameters())


def test_same_seed_same_dream_whatever_the_count(model: Model) -> None:
    both = dream(model, n=2)
    assert torch.equal(both[0], dream(model)[0])
    assert not torch.equal(both[0], both[1])  # each row has its own jitter
    assert not torch.equal(both[0], dream(model, seed=1)[0])
    assert torch.equal(*dream(model, n=2, jitter=0))


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": ("relu1_1",)},
        {"channels": (3,)},
        {"objective": "mean"},
        {"octaves": 1},
        {"octave_scale": 1.3},
        {"steps": 4},
        {"lr": 0.2},
        {"jitter": 0},
        {"smoothing": 0.0},
        {"smoothing": 3.0},
    ],
    ids=str,
)
def test_every_option_changes_the_dream(model: Model, changes: dict[str, Any]) -> None:
    assert not torch.equal(dream(model, **changes), dream(model))


def test_only_the_chosen_channel_counts(model: Model) -> None:
    how: dict[str, Any] = {"layers": ("conv2_1",), "objective": "mean"}
    made = {c: dream(model, channels=(c,), steps=8, **how)[0] for c in range(6)}
    for channel, image in made.items():
        assert seen(model, image, channels=(channel,), **how) > seen(
            model, photo(), channels=(channel,), **how
        )
    assert len({float(image.sum()) for image in made.values()}) == 6


def test_a_channel_that_sees_nothing_says_so(model: Model) -> None:
    with pytest.raises(InputError) as caught:
        dream(model, channels=(2,))
    assert caught.value.message == "channels=[2]: 'relu2_1' of tiny sees nothing in this image"
    assert (
        caught.value.hint == "take a layer before its ReLU with objective=mean, or other channels"
    )


def test_tiles_equal_the_whole(model: Model) -> None:
    image = photo(64, 96)
    whole = dream(model, image, octaves=1, tile=0)
    tiles = dream(model, image, octaves=1, tile=32, overlap=8)
    torch.testing.assert_close(tiles, whole, rtol=0, atol=1e-4)


def test_octaves_return_to_the_original(model: Model) -> None:
    """With a step of nearly nothing the details of the image survive all octaves."""
    (made,) = dream(model, octaves=3, octave_scale=1.5, lr=1e-6)
    torch.testing.assert_close(made, photo().clamp(-1, 1), rtol=0, atol=1e-3)


def test_octave_sizes_end_with_the_picture(model: Model) -> None:
    options = Options(**{**SMALL, "octaves": 3, "octave_scale": 2.0})
    assert octave_sizes(photo(40, 60), options, model.features) == [(10, 15), (20, 30), (40, 60)]


def test_smoothing_keeps_the_mean_and_removes_detail() -> None:
    flat = torch.ones(1, 3, 12, 12)
    torch.testing.assert_close(smoothed(flat, 1.5), flat)
    board = (torch.arange(12)[:, None] + torch.arange(12)) % 2 * 2.0 - 1
    assert smoothed(board.expand(1, 3, 12, 12), 2.0)[:, :, 4:8, 4:8].abs().max() < 0.05


def test_the_film_dives_into_the_dream(model: Model) -> None:
    options = Options(**SMALL, zoom_frames=3, zoom=0.2)
    with torch.no_grad():
        frames = model.animation(photo(), options, SampleNoise(0, 0, 1))
    assert len(frames) == 3
    assert all(frame.shape == photo().shape for frame in frames)
    assert torch.equal(frames[0], dream(model)[0])
    ahead = (frames[1] - zoomed(frames[0], 0.2)).abs().mean()
    assert ahead < (frames[1] - frames[0]).abs().mean()
    assert model.animation(photo(), Options(**SMALL), SampleNoise(0, 0, 1)) == []


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"layers": ("relu2_2",)}, "tiny has no layer 'relu2_2'", "did you mean 'relu2_1'?"),
        (
            {"channels": (6,)},
            "channels: layer 'relu2_1' of tiny has 6 channels, 0 to 5, not 6",
            None,
        ),
        (
            {"octaves": 6, "octave_scale": 2.0},
            "octaves=6: the smallest octave of an image of 26 x 20 pixels is 1 x 1, the layers "
            "need 5 pixels on each side",
            "octaves=3",
        ),
    ],
)
def test_wrong_options_in_words(
    model: Model, changes: dict[str, Any], message: str, hint: str | None
) -> None:
    with pytest.raises(InputError) as caught:
        dream(model, **changes)
    assert caught.value.message == message
    assert caught.value.hint == hint
