"""Style transfer: what its distances measure, and that an image moves towards its style."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models import _tiles
from aigc_cli.models._base import Run
from aigc_cli.models.image import adain, style_fast, style_optim
from aigc_cli.models.image.style_optim import Objective, Options, _cuts, _scales
from aigc_cli.nn.classifier import vgg
from aigc_cli.nn.features import random_features
from aigc_cli.nn.resnet_generator import Norm
from aigc_cli.nn.style import (
    adain as exchange,
)
from aigc_cli.nn.style import (
    gram,
    gram_distance,
    moments,
    relative,
    total_variation,
    with_colors_of,
)
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.iteration import Iteration
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import AnyImageSpec, UnpairedSpec


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# -- distances -------------------------------------------------------------------------------------


def test_gram_is_the_mean_of_outer_products() -> None:
    x = pictures(2, 3, 4, 5)
    expected = torch.einsum("bihw,bjhw->bij", x, x) / 20
    torch.testing.assert_close(gram(x), expected)


def test_relative_distances_do_not_depend_on_the_scale() -> None:
    x, y = pictures(2, 3, 4, 4), pictures(2, 3, 4, 4, seed=1)
    torch.testing.assert_close(relative(1e3 * x, 1e3 * y), relative(x, y), rtol=1e-4, atol=0)
    assert relative(x, x).tolist() == [0, 0]
    torch.testing.assert_close(relative(torch.zeros_like(x), x), torch.ones(2))


def test_a_style_does_not_depend_on_where_things_are() -> None:
    x = pictures(1, 6, 8, 8)
    moved = x.flatten(2)[:, :, torch.randperm(64, generator=torch.Generator().manual_seed(3))]
    distance = gram_distance({"a": moved.view_as(x)}, {"a": gram(x)})
    assert float(distance) < 1e-10


def test_adain_exchanges_exactly_the_moments() -> None:
    content, style = pictures(2, 3, 8, 8), 2 + 3 * pictures(2, 3, 5, 7, seed=1)
    for ours, theirs in zip(moments(exchange(content, style)), moments(style), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_total_variation_of_a_ramp() -> None:
    ramp = torch.arange(5.0).expand(1, 3, 4, 5)
    assert total_variation(ramp).tolist() == [1.0]


def test_colors_stay_and_lightness_changes() -> None:
    content, painted = 0.3 * pictures(3, 6, 6), 0.3 * pictures(3, 6, 6, seed=1)
    made = with_colors_of(painted, content)
    luma = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    torch.testing.assert_close((made * luma).sum(0), (painted * luma).sum(0), rtol=0, atol=1e-3)
    torch.testing.assert_close(with_colors_of(content, content), content, rtol=0, atol=1e-5)
    differences, expected = made[0] - made[2], content[0] - content[2]
    torch.testing.assert_close(differences, expected, rtol=0, atol=5e-3)


# -- optimization ----------------------------------------------------------------------------------

FEW = {"content_layer": "relu2_1", "style_layers": ("relu1_1", "relu2_1"), "coarsest": 32}


def test_tiles_give_the_gradient_of_the_whole() -> None:
    features = random_features("cnn")
    content, style = pictures(1, 3, 200, 330), pictures(3, 60, 60, seed=1)
    gradients, losses = [], []
    for tile in (0, 128):
        picture = pictures(1, 3, 200, 330, seed=2).requires_grad_(True)
        objective = Objective(features, content, [style], Options(**FEW, tile=tile))
        losses.append(objective(picture))
        assert picture.grad is not None
        gradients.append(picture.grad)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=0)
    scale = gradients[0].abs().max()
    torch.testing.assert_close(gradients[1] / scale, gradients[0] / scale, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_picture_moves_towards_its_style(optimizer: str) -> None:
    model = style_optim.Model(style_optim.Config(), AnyImageSpec(3))
    model.features = random_features("cnn")
    image, style = pictures(3, 32, 48), pictures(3, 40, 40, seed=1) * 0.2
    options = Options(**FEW, size=48, steps=8, optimizer=optimizer, style_weight=10)  # type: ignore[arg-type]
    with torch.no_grad():
        (made,) = model.sample(SampleNoise(0, 0, 1), options, image, [style])
    assert made.shape == (3, 32, 48)
    objective = Objective(model.features, image[None], [style], options)
    before, after = (x[None].clone().requires_grad_(True) for x in (image, made))
    assert objective(after) < 0.8 * objective(before)


def test_noise_gives_another_result_for_each_sample() -> None:
    model = style_optim.Model(style_optim.Config(), AnyImageSpec(3))
    model.features = random_features("cnn")
    options = Options(**FEW, size=32, steps=2, start="noise")
    with torch.no_grad():
        made = model.sample(
            SampleNoise(0, 0, 2), options, pictures(3, 32, 32), [pictures(3, 32, 32)]
        )
    assert not torch.equal(made[0], made[1])


def test_a_style_too_small_is_one_sentence() -> None:
    model = style_optim.Model(style_optim.Config(), AnyImageSpec(3))
    model.features = random_features("vgg19")
    options = Options(size=20, coarsest=32, steps=1)
    with pytest.raises(InputError, match="too small for layer"), torch.no_grad():
        model.sample(SampleNoise(0, 0, 1), options, pictures(3, 20, 15), [pictures(3, 40, 40)])
    sentence = "a style image of 20 x 40 pixels shows no style, it needs 32 on each side"
    with pytest.raises(InputError, match=sentence):
        model.sample(SampleNoise(0, 0, 1), Options(), pictures(3, 64, 64), [pictures(3, 40, 20)])


def test_scales_rise_by_the_square_root_of_two() -> None:
    assert _scales(512, 128) == [128, 181, 256, 362, 512]
    assert _scales(100, 100) == [100]
    assert all(a < b for a, b in zip(_scales(300, 128), _scales(300, 128)[1:], strict=False))


def test_cuts_cover_everything_once() -> None:
    for length in (31, 700, 769, 2000):
        cuts = list(_cuts(length, 768))
        assert [a for a, _ in cuts] == [0, *(b for _, b in cuts[:-1])]
        assert cuts[-1][1] == length
        assert all(a % 32 == 0 and b - a <= 768 + 32 for a, b in cuts)


# -- feed-forward ----------------------------------------------------------------------------------


VGG_CONFIG = adain.Config(
    layers=("relu1_1", "relu2_1", "relu3_1", "relu4_1"),
    channels=(64, 128, 256, 512),
    widths=(64, 128, 256, 512),
    stride=1,
    skips=False,
)
TWO_LAYERS = adain.Config(
    layers=("relu1_1", "relu2_1"), channels=(32, 64), widths=(16, 8), stride=1
)


def test_layers_of_other_strides_are_one_sentence() -> None:
    model = adain.Model(TWO_LAYERS.model_copy(update={"stride": 2}), UNPAIRED)
    with pytest.raises(InputError, match=r"are \[1, 2\], not \[2, 4\]") as caught:
        model.features = random_features("cnn")
    assert caught.value.hint == "choose one layer of each stage, and model.stride=1"


def test_adain_of_nothing_is_the_decoded_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tiles, "BORDER", 0)  # the network alone
    model = adain.Model(TWO_LAYERS, UNPAIRED)
    model.features = random_features("cnn")
    image, style = pictures(3, 32, 32), pictures(3, 40, 36, seed=1)
    noise = SampleNoise(0, 0, 1)
    with torch.no_grad():
        (made,) = model.sample(noise, adain.Options(strength=0), image, [style])
        (painted,) = model.sample(noise, adain.Options(), image, [style])
        seen = model.encode(image[None])
        decoded = model.decoder([seen["relu1_1"], seen["relu2_1"]])[0]
    torch.testing.assert_close(made, decoded)
    assert not torch.allclose(painted, decoded)


def test_the_moments_of_a_picture_in_tiles_are_those_of_the_whole() -> None:
    model = adain.Model(TWO_LAYERS, UNPAIRED)
    model.features = random_features("cnn")
    image = pictures(1, 3, 256, 384)
    with torch.no_grad():
        whole = moments(model.encode(image)["relu2_1"])
        tiles = model._moments(image, 128)
    for a, b in zip(whole, tiles["relu2_1"], strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.03)  # borders of tiles differ


def test_the_decoder_is_vgg19_backwards() -> None:
    """Up to the first convolution of the fourth stage, which is 9 convolutions: 3.5 M weights."""
    decoder = adain.Model(VGG_CONFIG, UNPAIRED).decoder
    encoder = [layer for layer in vgg("vgg19")[:20] if isinstance(layer, torch.nn.Conv2d)]
    layers = [layer for layer in decoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    shapes = [(layer.in_channels, layer.out_channels) for layer in layers]
    assert shapes == [(c.out_channels, c.in_channels) for c in reversed(encoder)]
    assert sum(p.numel() for p in decoder.parameters()) == 3_505_219


def test_a_decoder_of_other_widths_is_one_sentence() -> None:
    model = adain.Model(VGG_CONFIG, UNPAIRED)
    with pytest.raises(InputError, match=r"have \[32, 64, 128, 256\]"):
        model.features = random_features("cnn")


def test_equal_pictures_cost_only_smoothness() -> None:
    """Where photograph and style are the same, the identity is the answer."""
    model = style_fast.Model(style_fast.Config(num_features=4, num_blocks=1), UNPAIRED)
    model.features = random_features("cnn")
    image = pictures(2, 3, 32, 32)[:1]
    terms = model.baselines({"a": image, "b": image})["identity"]
    assert float(terms["content"]) < 1e-9
    assert float(terms["style"]) < 1e-9


def test_parts_of_a_batch_are_judged_by_the_style_of_the_whole() -> None:
    """The distance is no linear function of the style, so that of each part would be another."""
    batch = {"a": pictures(4, 3, 32, 32), "b": pictures(4, 3, 32, 32).flip(0).square()}

    def gradients(parts: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = style_fast.Model(style_fast.Config(num_features=4, num_blocks=1), UNPAIRED)
        model.features = random_features("cnn")
        trainer = Trainer(max_steps=1, global_batch=4, accumulate=parts)
        model.prepare(Run(trainer, seed=0, max_steps=1))
        Iteration(model, [model.configure_optimizers()])(batch)
        return [p.grad for p in model.parameters() if p.grad is not None]

    for cut in (2, 4):
        torch.testing.assert_close(gradients(cut), gradients(1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("norm", "sees_tint"), [("instance", False), ("group", True)])
def test_only_group_norm_sees_the_tint_of_a_picture(norm: Norm, sees_tint: bool) -> None:
    config = style_fast.Config(num_features=32, num_blocks=1, norm=norm)
    model = style_fast.Model(config, UNPAIRED).eval()
    image = pictures(3, 32, 32) / 2
    tinted = image + torch.tensor([0.3, 0.0, -0.3])[:, None, None]
    with torch.no_grad():
        plain, other = (
            model.sample(SampleNoise(0, 0, 1), style_fast.Options(), x) for x in (image, tinted)
        )
    assert (float((plain - other).abs().max()) > 0.01) is sees_tint


UNPAIRED = UnpairedSpec(channels=3, image_size=32)
