"""Frozen feature networks: layers, channels, random weights, files, checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from aigc_cli.errors import AigcError, CheckpointError, InputError, MissingError
from aigc_cli.nn.classifier import build
from aigc_cli.nn.features import (
    FeatureNetwork,
    cnn_arch,
    perceptual_distance,
    random_features,
    stage_ends,
    vgg_arch,
)
from aigc_cli.run.checkpoint import load_checkpoint, save_checkpoint
from aigc_cli.run.features import open_features


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def small() -> FeatureNetwork:
    return random_features("cnn")


def tiny(seed: int = 0, **arch: object) -> FeatureNetwork:
    torch.manual_seed(seed)
    described = cnn_arch(3, (4, 6), (2, 1)) | arch
    return FeatureNetwork(build(described), described, "tiny")


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_vgg_is_torchvisions(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(weights=None).features
        chain = build(vgg_arch(name))
    for parameter in theirs.to_empty(device="cpu").parameters():
        nn.init.uniform_(parameter, -0.06, 0.06, generator=random)
    plain = nn.Sequential(*chain)
    plain.load_state_dict(theirs.state_dict(), assign=True)
    network = FeatureNetwork(chain, vgg_arch(name), name)
    images = pictures(1, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    last = network.layers[-1]
    assert last == {"vgg16": "relu5_3", "vgg19": "relu5_4"}[name]
    with torch.no_grad():
        expected = theirs[:-1](((images + 1) / 2 - mean) / std)
    torch.testing.assert_close(network(images, [last])[last], expected, rtol=1e-4, atol=1e-5)


def test_only_what_was_asked_and_no_deeper(small: FeatureNetwork) -> None:
    found = small(pictures(2, 3, 8, 8), ["relu2_1", "conv1_2"])  # too small for all of it
    assert {k: tuple(v.shape) for k, v in found.items()} == {
        "conv1_2": (2, 32, 8, 8),
        "relu2_1": (2, 64, 4, 4),
    }
    assert small.channels["relu2_1"] == 64
    assert found["conv1_2"].min() < 0  # no later layer writes into it


def test_gray_is_repeated_and_colors_become_luma() -> None:
    gray = pictures(2, 1, 8, 8)
    color = tiny()
    assert torch.equal(
        color(gray, ["relu2_1"])["relu2_1"],
        color(gray.repeat(1, 3, 1, 1), ["relu2_1"])["relu2_1"],
    )
    monochrome = tiny(channels=1)
    rgb = gray.repeat(1, 3, 1, 1)
    torch.testing.assert_close(
        monochrome(rgb, ["relu2_1"])["relu2_1"], monochrome(gray, ["relu2_1"])["relu2_1"]
    )


def test_gradients_reach_pictures_but_no_weights() -> None:
    network, images = tiny(), pictures(1, 3, 8, 8).requires_grad_()
    network(images, ["relu2_1"])["relu2_1"].square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in network.parameters())


def test_stays_in_evaluation_mode() -> None:
    network = tiny(norm=True).train()
    before = network.chain.norm1_1.running_mean.clone()
    network(pictures(2, 3, 8, 8), ["relu2_1"])
    assert torch.equal(network.chain.norm1_1.running_mean, before)


def test_random_weights_follow_their_seed_alone_and_keep_the_scale() -> None:
    state = torch.get_rng_state()
    one, two, other = (random_features("cnn", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.chain.conv3_1.weight, two.chain.conv3_1.weight)
    assert not torch.equal(one.chain.conv3_1.weight, other.chain.conv3_1.weight)
    found = one(pictures(1, 3, 64, 64), [name for name in one.layers if "conv" in name])
    assert all(0.3 < float(v.std()) < 10 for v in found.values())
    assert one.stamp == "cnn random seed 1"


def test_state_goes_through_a_checkpoint_file(tmp_path: Path) -> None:
    network = tiny(norm=True).upto(["relu1_2"])
    path = tmp_path / "state.ckpt"
    save_checkpoint(
        {"format": 1, "aigc": "0", "step": 0, "recipe": {}, "recipe_path": None, "spec": {}}
        | {"weights": {}, "ema": None, "optimizers": [], "scaler": None, "best": None}
        | {"features": network.state()},
        path,
    )
    again = FeatureNetwork.from_state(load_checkpoint(path)["features"])
    images = pictures(1, 3, 8, 8)
    assert again.layers == network.layers == tuple(tiny(norm=True).layers[:6])
    assert again.stamp == "tiny"
    assert torch.equal(
        again(images, ["relu1_2"])["relu1_2"], network(images, ["relu1_2"])["relu1_2"]
    )
    assert not any(p.requires_grad for p in again.parameters())


def test_a_state_of_something_else_is_refused() -> None:
    state = tiny().state()
    with pytest.raises(CheckpointError, match="feature network in the checkpoint does not fit"):
        FeatureNetwork.from_state({**state, "arch": {**state["arch"], "widths": [4, 7]}})


def test_other_pooling_and_padding_keep_the_weights() -> None:
    network, images = tiny(), torch.ones(1, 3, 8, 8)
    other = network.modified(pooling="avg", padding="replicate")
    flat = other(images, ["conv1_1"])["conv1_1"]
    assert torch.equal(flat, flat[:, :, :1, :1].expand_as(flat))  # no border where edges repeat
    assert not torch.equal(network(images, ["conv1_1"])["conv1_1"], flat)
    found = other(pictures(1, 3, 8, 8), ["relu1_2", "pool1"])
    torch.testing.assert_close(found["pool1"], 2 * nn.functional.avg_pool2d(found["relu1_2"], 2))
    assert network.modified(pooling="max") is network


@pytest.mark.parametrize(
    ("layers", "size", "message", "hint"),
    [
        (["relu2_9"], 8, "tiny has no layer 'relu2_9'", "did you mean 'relu2_1' or 'relu1_2'?"),
        ([], 8, "no layer of the feature network was named", None),
        (
            ["relu2_1"],
            1,
            "an image of 1 x 1 pixels is too small for layer 'relu2_1' of tiny, which needs "
            "2 pixels on each side",
            "take a larger image or an earlier layer",
        ),
    ],
)
def test_wrong_layers_and_sizes(
    layers: list[str], size: int, message: str, hint: str | None
) -> None:
    with pytest.raises(InputError) as caught:
        tiny()(pictures(1, 3, size, size), layers)
    assert caught.value.message == message
    assert caught.value.hint == hint


def test_absent_imagenet_weights_say_which_file_goes_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(MissingError) as caught:
        open_features("vgg19")
    assert caught.value.message == f"the weights vgg19-dcbb9e9d.pth are not in {tmp_path}"
    assert caught.value.hint is not None
    assert torchvision.models.VGG19_Weights.IMAGENET1K_V1.url in caught.value.hint
    assert str(tmp_path / "hub" / "checkpoints") in caught.value.hint


def test_a_file_of_torchvision_is_read(tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(weights=None).features
    state = {f"features.{k}": torch.zeros(v.shape) for k, v in theirs.state_dict().items()}
    state["features.0.bias"] += 3
    torch.save(state, tmp_path / "mine.pth")
    network = open_features("mine.pth", bases=[tmp_path])
    assert network.stamp == "vgg16 mine.pth"
    found = network(pictures(1, 3, 4, 4), ["relu1_1"])["relu1_1"]
    assert torch.equal(found, torch.full_like(found, 3.0))


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    cases = {
        "text.pth": "damaged, or no file of weights",
        "other.pth": "not the weights of vgg16 or vgg19 (0 convolutions)",
    }
    for name, message in cases.items():
        with pytest.raises(CheckpointError) as caught:
            open_features(str(tmp_path / name))
        assert caught.value.message == f"{tmp_path / name}: {message}"
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("random:vgg91", "no random network 'vgg91'"),
        ("random:cnn:x", "features=random:cnn:x: the seed 'x' is no whole number"),
        ("vgg91", "features=vgg91: no such network"),
        ("absent.pth", "features=absent.pth: there is no such file"),
        ("runs/absent", "runs/absent: there is no such run or checkpoint"),
    ],
)
def test_wrong_names(text: str, message: str) -> None:
    with pytest.raises(AigcError) as caught:
        open_features(text)
    assert caught.value.message == message
    assert caught.value.exit_code == 2


def test_perceptual_distance_is_that_of_its_formula() -> None:
    network = random_features("cnn")
    x, y = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    layers = ["relu1_2", "relu2_2", "relu3_2", "relu4_2"]
    found = [network(images, layers) for images in (x, y)]
    expected = torch.zeros(2)
    for name in layers:
        u, v = (one[name] / one[name].norm(dim=1, keepdim=True) for one in found)
        cosine = (u * v).sum(1)  # of unit vectors: |u - v|^2 = 2 - 2 cos
        expected += (2 - 2 * cosine).mean((1, 2)) / 4
    torch.testing.assert_close(perceptual_distance(network, x, y), expected, rtol=1e-4, atol=1e-6)
    assert perceptual_distance(network, x, x).tolist() == [0, 0]


def test_stages_end_where_the_next_begins() -> None:
    names = ["conv1_1", "relu1_1", "relu1_2", "pool1", "relu2_1", "pooled", "logits"]
    assert stage_ends(names) == ["relu1_2", "relu2_1"]
    assert stage_ends(["stem", "layer1_1", "layer1_2", "layer2_1"]) == ["layer1_2", "layer2_1"]
    assert stage_ends(["flat", "hidden1", "pooled", "logits"]) == ["pooled"]
