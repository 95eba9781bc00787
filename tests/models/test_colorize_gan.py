"""The conditional GAN in Lab: phases, losses against their formulas, sizes that do not fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from aigc_cli.errors import RecipeError
from aigc_cli.media.lab import lab_to_rgb, rgb_to_lab
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.image.colorize_gan import Config, Model, Options
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec

SMALL = {"num_features": 4, "disc_features": 4, "disc_layers": 1}


def model(size: int = 16, **config: object) -> Model:
    torch.manual_seed(0)
    made = Model(Config(**{**SMALL, **config}), ImageSpec(channels=3, image_size=size))  # type: ignore[arg-type]
    made.run = Run(Trainer(max_steps=1, global_batch=2), seed=0, max_steps=1)
    made._noise = _Noise(0, made.run, torch.device("cpu"))
    return made


def batch(size: int = 16) -> dict[str, torch.Tensor]:
    return {
        "image": torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    }


def test_pretraining_is_l1_alone_and_leaves_the_discriminator_untouched() -> None:
    network = model(pretrain_steps=3, dropout=False).eval()
    assert [phase.prefix for phase in network.phases()] == ["g_"]
    terms = network.generator_loss(batch())
    lab = rgb_to_lab(batch()["image"])
    expected = (network.generator(lab[:, :1] / 50 - 1) - lab[:, 1:] / 110).abs().mean()
    assert set(terms) == {"loss", "l1"}
    torch.testing.assert_close(terms["loss"], 100 * expected)
    terms["loss"].backward()
    assert all(p.grad is None for p in network.discriminator.parameters())
    network.step = 3
    assert [phase.prefix for phase in network.phases()] == ["d_", "g_"]


def test_losses_are_cross_entropies_of_patches_of_lab() -> None:
    network = model(dropout=False).eval()
    lab = rgb_to_lab(batch()["image"])
    L, ab = lab[:, :1] / 50 - 1, lab[:, 1:] / 110
    made = network.generator(L)
    real, fake = (network.discriminator(torch.cat([L, x], 1)) for x in (ab, made))
    bce = F.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    torch.testing.assert_close(network.discriminator_loss(batch())["loss"], expected)
    expected = bce(fake, torch.ones_like(fake)) + 100 * (made - ab).abs().mean()
    torch.testing.assert_close(network.generator_loss(batch())["loss"], expected)


@pytest.mark.parametrize("size", [(16, 16), (30, 47), (5, 80)])
def test_pictures_of_any_size_keep_their_lightness(size: tuple[int, int]) -> None:
    network = model().eval()
    gray = torch.rand(1, *size) - 0.5
    with torch.no_grad():
        made = network.sample(SampleNoise(0, 0, 1), Options(), gray)
    assert made.shape == (1, 3, *size)
    L = rgb_to_lab(gray.expand(3, -1, -1))[0]
    torch.testing.assert_close(rgb_to_lab(made[0])[0], L, atol=0.5, rtol=0)


def test_a_perfect_generator_gives_the_original_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network = model().eval()
    flat = lab_to_rgb(torch.tensor([60.0, 20.0, -30.0]).view(1, 3, 1, 1).expand(1, 3, 16, 16))
    answer = torch.tensor([20.0, -30.0]).view(1, 2, 1, 1).expand(1, 2, 16, 16) / 110
    monkeypatch.setattr(network.generator, "forward", lambda L: answer)
    assert float(network.evaluate_batch({"image": flat})["auc"]) == pytest.approx(100, abs=0.01)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (18, "data.image_size: 18 pixels cannot be halved twice, choose a multiple of 4"),
        (
            4,
            "data.image_size: 4 pixels are too few for model.disc_layers=1, "
            "6 or more, or fewer layers",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_named(size: int, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        model(size)
    assert str(caught.value) == message
