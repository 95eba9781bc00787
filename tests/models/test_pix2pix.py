"""pix2pix against the paper's formulas and what its users miss."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Run, _Noise
from aigc_cli.models._paired import as_channels, compared
from aigc_cli.models.image.pix2pix import Config, Model, Options, num_downs
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import PairSpec

S = 32


def build(source: int = 3, target: int = 3, *, accumulate: int = 1, **config: Any) -> Model:
    torch.manual_seed(0)
    model = Model(Config(num_features=4, **config), PairSpec(source, target, S))
    model.run = Run(Trainer(max_steps=1, global_batch=4, accumulate=accumulate), 0, 1)
    model._noise = _Noise(0, model.run, torch.device("cpu"))
    return model


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch_of(model: Model, count: int = 2) -> Batch:
    spec = model.spec
    assert isinstance(spec, PairSpec)
    return {
        "source": pictures(count, spec.source_channels, S, S),
        "target": pictures(count, spec.target_channels, S, S, seed=1),
    }


def noise(count: int, first: int = 0) -> SampleNoise:
    return SampleNoise(0, first, count)


def translated(model: Model, image: Tensor, options: Options, count: int = 1) -> Tensor:
    with torch.no_grad():
        return model.eval().sample(noise(count), options, image)


def test_losses_are_those_of_the_paper() -> None:
    model = build(dropout=False)
    batch = batch_of(model)
    made = model.generator(batch["source"])
    fake = model.discriminator(torch.cat([batch["source"], made], 1))
    real = model.discriminator(torch.cat([batch["source"], batch["target"]], 1))
    ones, zeros = torch.ones_like(fake), torch.zeros_like(fake)
    cross_entropy = F.binary_cross_entropy_with_logits
    expected_d = (cross_entropy(real, ones) + cross_entropy(fake, zeros)) / 2
    expected_g = cross_entropy(fake, ones) + 100 * F.l1_loss(made, batch["target"])
    torch.testing.assert_close(model.discriminator_loss(batch)["loss"], expected_d)
    torch.testing.assert_close(model.generator_loss(batch)["loss"], expected_g)


def test_optimizers_are_those_of_the_paper() -> None:
    for optimizer in build().configure_optimizers():
        assert optimizer.defaults["lr"] == 2e-4
        assert optimizer.defaults["betas"] == (0.5, 0.999)


def test_dropout_masks_do_not_depend_on_how_the_batch_is_cut() -> None:
    whole, parts = build(), build(accumulate=2)
    batch = batch_of(whole, 4)
    together = whole._made(batch["source"])
    assert parts._noise is not None
    for number, part in enumerate(batch["source"].chunk(2)):
        parts._noise.start_part(number)
        made = parts._made(part)
        torch.testing.assert_close(made, together[2 * number : 2 * number + 2])


@pytest.mark.parametrize("objective", ["vanilla", "lsgan", "hinge"])
def test_a_perfect_discriminator_is_named(objective: str) -> None:
    model = build(objective=objective)
    assert model.health({"d_right": 0.999}) == ["discriminator wins"]
    assert model.health({"d_right": 0.8}) == []
    assert 0 <= model.discriminator_loss(batch_of(model))["right"] <= 1


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_use_is_deterministic_and_the_same_alone_as_in_a_batch(norm: str) -> None:
    model = build(norm=norm).eval()
    batch = batch_of(model, 3)
    with torch.no_grad():
        together = model.answers(batch, Options())
        alone = translated(model, batch["source"][1], Options())
    torch.testing.assert_close(alone[0], together[1], atol=1e-5, rtol=1e-4)


def test_stochastic_answers_differ_and_follow_from_seed_and_number() -> None:
    model = build().eval()
    image, options = pictures(3, S, S), Options(stochastic=True)
    three = translated(model, image, options, 3)
    assert (three[0] - three[1]).abs().max() > 1e-3
    with torch.no_grad():
        third = model.sample(noise(1, first=2), options, image)
    torch.testing.assert_close(three[2:], third, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("source", "target"), [(1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("size", [(5, 70), (33, 64)])
def test_every_size_and_channel_is_translated(
    source: int, target: int, size: tuple[int, int]
) -> None:
    model = build(source, target)
    made = translated(model, pictures(source, *size), Options(tile=48, overlap=4), 2)
    assert made.shape == (2, target, *size)
    assert made.isfinite().all()


def test_measures_have_closed_forms() -> None:
    target = torch.zeros(2, 3, S, S)
    found = compared(target + 0.5, target)
    assert found["l1"].tolist() == [0.5, 0.5]
    step = round(127.5 * 1.5) - round(127.5)  # of 8 bits
    assert found["psnr_rgb"][0].item() == pytest.approx(20 * math.log10(255 / step), abs=1e-3)


def test_baselines_are_the_source_and_the_mean_of_training_targets() -> None:
    model = build(1, 3)
    batch = batch_of(model)
    model.target_mean.copy_(batch["target"].mean(0))
    found = model.baselines(batch)
    expected = (batch["source"].expand(-1, 3, -1, -1) - batch["target"]).abs().mean((1, 2, 3))
    torch.testing.assert_close(found["identity"]["l1"], expected)
    expected = (batch["target"].mean(0) - batch["target"]).abs().mean((1, 2, 3))
    torch.testing.assert_close(found["mean"]["l1"], expected)


def test_the_mean_of_targets_is_kept_in_the_checkpoint() -> None:
    model = build()
    targets = pictures(6, 3, S, S)
    for part in (targets[:2], targets[2:3], targets[3:]):
        model.after_step({"source": part, "target": part})
    torch.testing.assert_close(model.target_mean, targets.mean(0))
    other = build()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.target_mean, model.target_mean)
    assert other.targets_seen == 6


def test_gray_is_luma_and_color_is_equal_channels() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    assert as_channels(red, 1).item() == pytest.approx(2 * 0.299 - 1)
    assert as_channels(torch.ones(1, 1, 2, 2), 3).shape == (1, 3, 2, 2)


def test_sizes_that_do_not_fit_are_named() -> None:
    assert num_downs(None, 128) == 7
    assert num_downs(4, 48) == 4
    with pytest.raises(InputError, match=r"image_size=50: .* multiple of 4 is|needs a multiple"):
        num_downs(None, 50)
    with pytest.raises(InputError, match="halves images 5 times and needs a multiple of 32"):
        num_downs(5, 48)
    with pytest.raises(InputError, match="16 pixels or more"):
        Model(Config(), PairSpec(3, 3, 8))
    with pytest.raises(InputError, match="patch_layers=3 needs 24 pixels"):
        Model(Config(), PairSpec(3, 3, 16))


def test_a_tile_that_is_only_overlap_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a tile of 21 or more"):
        Options(tile=20, overlap=8)


def test_a_large_picture_needs_the_memory_of_a_tile() -> None:
    model = build().eval()
    largest = 0

    def spy(module: object, inputs: tuple[Tensor, ...]) -> None:
        nonlocal largest
        largest = max(largest, *inputs[0].shape[-2:])

    model.generator.register_forward_pre_hook(spy)
    made = translated(model, pictures(3, 300, 40), Options(tile=64, overlap=8))
    assert made.shape == (1, 3, 300, 40)
    assert largest == 64
