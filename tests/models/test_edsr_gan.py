"""EDSR with two discriminators: losses against their formulas, starting from an EDSR."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aigc_cli.errors import RecipeError
from aigc_cli.models._base import Run
from aigc_cli.models.image import edsr
from aigc_cli.models.image.edsr_gan import Config, Discriminator, Model, Options
from aigc_cli.nn.features import random_features
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.border import BORDER, mirrored
from aigc_cli.specs.image import SuperResolutionSpec

SPEC = SuperResolutionSpec(channels=3, scale=2)
SMALL = {
    "num_blocks": 1,
    "num_features": 4,
    "disc_features": 2,
    "feature_layer": "relu2_1",
    "feature_channels": 64,
    "feature_scale": 0.5,
    "shift": 0,
}


def model(**config: object) -> Model:
    torch.manual_seed(0)
    made = Model(Config(**{**SMALL, **config}), SPEC)  # type: ignore[arg-type]
    made.features = random_features("cnn")
    return made.eval()  # spectral norms as they are, so that a second computation gives the same


def batch() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    low, high = (torch.rand(2, 3, size, size, generator=random) * 2 - 1 for size in (12, 24))
    return {"low": low, "high": high}


def test_an_edsr_checkpoint_of_the_same_size_is_the_generator() -> None:
    start = edsr.Model(edsr.Config(num_blocks=1, num_features=4), SPEC).state_dict()
    network = model()
    theirs = {k: v.shape for k, v in network.state_dict().items() if k.startswith("net.")}
    assert theirs == {k: v.shape for k, v in start.items()}
    network.load_state_dict(start, strict=False)
    low = batch()["low"]
    torch.testing.assert_close(
        network.super_resolve(low, Options(precision="fp32"))[..., 16:-16, 16:-16],
        network.net(low).detach()[..., 16:-16, 16:-16],
    )


def test_both_images_of_a_pair_are_cut_at_one_place_and_pairs_at_any() -> None:
    network = model(shift=3)
    network.run = Run(Trainer(max_steps=1, global_batch=256), seed=0, max_steps=1)
    network.start_phase(0)
    real = torch.arange(8 * 90.0).reshape(1, 1, 8, 90).expand(256, 1, 8, 90)
    one, other = network._cut(real, real + 0.5)
    assert one.shape == (256, 1, 5, 87)
    torch.testing.assert_close(other, one + 0.5, rtol=0, atol=0)
    firsts = {(int(x) // 90, int(x) % 90) for x in one[:, 0, 0, 0].tolist()}
    assert firsts == {(y, x) for y in range(4) for x in range(4)}
    network.config = network.config.model_copy(update={"shift": 9})
    assert network._cut(real[:, :, :4], real[:, :, :4])[0].shape == (256, 1, 2, 88)


def test_discriminator_loss_is_the_cross_entropy_of_both() -> None:
    network, items = model(), batch()
    with torch.no_grad():
        fake, high = network.net(items["low"]), items["high"]
        seen = [network.features(x, ["relu2_1"])["relu2_1"] / 2 for x in (high, fake)]
    bce = F.binary_cross_entropy_with_logits
    one, zero = torch.ones(2), torch.zeros(2)
    image, feature = network.discriminator, network.feature_discriminator
    expected = {
        "image": bce(image(high), one) + bce(image(fake), zero),
        "feature": bce(feature(seen[0]), one) + bce(feature(seen[1]), zero),
    }
    terms = network.discriminator_loss(items)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    torch.testing.assert_close(terms["loss"], sum(expected.values()))


def test_generator_loss_has_the_weights_of_srfeat_and_some_l1() -> None:
    network, items = model(), batch()
    fake, high = network.net(items["low"]), items["high"]
    real_seen, seen = (network.features(x, ["relu2_1"])["relu2_1"] / 2 for x in (high, fake))
    bce, one = F.binary_cross_entropy_with_logits, torch.ones(2)
    expected = F.mse_loss(seen, real_seen)
    expected = expected + 1e-3 * bce(network.discriminator(fake), one)
    expected = expected + 1e-3 * bce(network.feature_discriminator(seen), one)
    expected = expected + 1e-2 * F.l1_loss((fake + 1) / 2, (high + 1) / 2)
    torch.testing.assert_close(network.generator_loss(items)["loss"], expected)


def test_r1_is_half_gamma_times_the_squared_gradient_at_real_data() -> None:
    network, items = model(r1=10.0), batch()
    terms = network.discriminator_loss(items)
    penalty = torch.zeros(())
    real = items["high"]
    pairs = [(network.discriminator, real), (network.feature_discriminator, network.seen(real))]
    for judge, x in pairs:
        x = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(judge(x).sum(), x)
        penalty = penalty + gradient.square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(terms["r1"], penalty)
    torch.testing.assert_close(terms["loss"], terms["image"] + terms["feature"] + 5 * penalty)


def test_features_are_no_part_of_the_weights_and_get_no_gradient() -> None:
    network = model()
    network.generator_loss(batch())["loss"].backward()
    assert not any("features" in key or "chain" in key for key in network.state_dict())
    assert all(p.grad is None for p in network.features.parameters())


def test_perfect_enlargement_has_no_feature_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    network, items = model(), batch()
    scale, high = network.scale, items["high"]
    border = (scale * BORDER, scale * BORDER)
    monkeypatch.setattr(network.net, "forward", lambda low: mirrored(high, border, border))
    values = network.evaluate_batch(items)
    assert values["feature_distance"].tolist() == [0, 0]
    assert values["psnr_y"].min() > 60


@pytest.mark.parametrize("size", [1, 5, 16, 37])
@pytest.mark.parametrize("spectral", [True, False])
def test_discriminators_judge_patches_of_any_size(size: int, spectral: bool) -> None:
    judge = Discriminator(3, 2, spectral=spectral).eval()
    assert judge(torch.zeros(2, 3, size, size)).shape == (2,)


def test_spectral_norms_are_one() -> None:
    judge = Discriminator(3, 8, spectral=True).train()
    for _ in range(50):  # one step of the power iteration each
        judge(torch.zeros(1, 3, 8, 8))
    for layer in judge.layers:
        if hasattr(layer, "parametrizations"):
            norm = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
            assert float(norm) == pytest.approx(1, abs=0.02)


def test_a_wrong_number_of_feature_channels_is_named() -> None:
    network = model(feature_layer="relu1_1")
    with pytest.raises(RecipeError) as caught:
        network.prepare(Run(Trainer(max_steps=1), seed=0, max_steps=1))
    assert str(caught.value) == (
        "model.feature_channels: layer 'relu1_1' of cnn random seed 0 has 32 channels, not 64, "
        "set it to 32"
    )
