"""EfficientNet-Lite0: its size, TensorFlow's padding, folding, and what it sees."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F

from aigc_cli.catalog.weights import find_model
from aigc_cli.errors import MissingError
from aigc_cli.nn.classifier import build
from aigc_cli.nn.efficientnet_lite import SameConv2d, fold, from_published
from aigc_cli.nn.features import FeatureNetwork
from aigc_cli.run.features import open_features

ARCH = {
    "name": "efficientnet_lite0",
    "channels": 3,
    "image_size": 32,
    "num_classes": 1000,
    "dropout": 0.0,
}


@pytest.fixture(scope="module")
def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    made = build(ARCH)
    images = torch.randn(4, 3, 64, 64)
    made(images)  # batch statistics that are neither 0 nor 1
    return made.eval()


def test_it_has_the_published_number_of_weights(network: torch.nn.Sequential) -> None:
    assert sum(p.numel() for p in network.parameters()) == 4_652_008  # 4.7 M in the paper's table
    assert sum(t.numel() for t in network.state_dict().values()) == 4_694_073
    assert len(network.state_dict()) == 296


@pytest.mark.parametrize(("kernel", "side"), [(3, 8), (3, 7), (5, 8), (5, 5)])
def test_same_padding_puts_the_odd_pixel_behind(kernel: int, side: int) -> None:
    """Against the rule of TensorFlow's documentation, place by place."""
    conv = SameConv2d(1, 1, kernel, 2, bias=False)
    x = torch.randn(1, 1, side, side)
    places = -(-side // 2)
    before = max((places - 1) * 2 + kernel - side, 0) // 2
    wide = F.pad(x, [before, kernel, before, kernel])
    windows = wide.unfold(2, kernel, 2).unfold(3, kernel, 2)[:, :, :places, :places]
    expected = (windows * conv.weight[0, 0]).sum((-2, -1))
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)


def test_folding_changes_no_answer(network: torch.nn.Sequential) -> None:
    folded = copy.deepcopy(network)
    fold(folded)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(folded(x), network(x), rtol=1e-3, atol=1e-4)
    again = FeatureNetwork.from_state(
        FeatureNetwork(folded, {**ARCH, "folded": True}, "test").state()
    )
    assert torch.equal(again(x, ["logits"])["logits"], folded(x))


def test_a_place_of_a_layer_does_not_move_with_the_size_of_the_image(
    network: torch.nn.Sequential,
) -> None:
    """Odd sides would shift TensorFlow's padding; in tiles the grid must stay."""
    features = FeatureNetwork(network, ARCH, "test")
    assert (features.strides["stem"], features.strides["layer5_3"]) == (2, 16)
    x = torch.randn(1, 3, 97, 64)
    whole = features(x, ["layer3_2"])["layer3_2"]
    part = features(x[:, :, :64], ["layer3_2"])["layer3_2"]
    assert whole.shape[-2:] == (16, 8)  # filled up to a multiple of 32
    torch.testing.assert_close(whole[:, :, :2], part[:, :, :2], rtol=1e-3, atol=1e-3)


def test_published_weights_of_another_shape_are_named(network: torch.nn.Sequential) -> None:
    own = network.state_dict()
    theirs = {f"_{number}": tensor for number, tensor in enumerate(own.values())}
    assert torch.equal(from_published(theirs, own)["logits.1.bias"], own["logits.1.bias"])
    theirs["_0"] = torch.zeros(32, 3, 5, 5)
    with pytest.raises(ValueError, match=r"_0 is \(32, 3, 5, 5\), not \(32, 3, 3, 3\)"):
        from_published(theirs, own)


def test_imagenet_weights_name_a_cat_and_an_espresso() -> None:
    """Numbers of efficientnet-lite-pytorch 0.1.0 on the same pixels."""
    try:
        find_model("imagenet")
    except MissingError:
        pytest.skip("aigc model get efficientnet_lite0")
    network = open_features("imagenet")
    assert network.stamp.startswith("efficientnet_lite0 of ImageNet, ")
    expected = {"cat": (285, 0.385), "coffee": (967, 0.940)}  # Egyptian cat, espresso
    for name, (number, probability) in expected.items():
        image = torch.from_numpy(np.ascontiguousarray(getattr(skimage.data, name)()))
        side = min(image.shape[:2])
        top, left = ((length - side) // 2 for length in image.shape[:2])
        square = image[top : top + side, left : left + side].permute(2, 0, 1)[None].float()
        small = F.interpolate(square, (224, 224), mode="bicubic", antialias=True).round()
        found = network(small.clamp(0, 255) / 127.5 - 1, ["logits"])["logits"].softmax(1)[0]
        assert int(found.argmax()) == number
        assert abs(float(found[number]) - probability) < 0.02
