from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.image.dcgan import (
    Config,
    Model,
    Options,
    _spread,
    truncated,
)
from aigc_cli.nn.adversarial import zero_centered_penalty
from aigc_cli.recipe.load import load_recipe
from aigc_cli.recipe.sections import Trainer
from aigc_cli.run.train import train
from aigc_cli.sampling.interpolation import InterpolatedNoise
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec
from tests.run.conftest import assert_same, load, paint, rows_of

LABELS = ("boot", "shirt", "bag")
OBJECTIVES = ("vanilla", "lsgan", "hinge", "wgan_gp", "relativistic")


def build(size: int = 8, channels: int = 3, *, ema: float | None = None, **config: object) -> Model:
    torch.manual_seed(0)
    small = {"num_features": 4, "latent_dim": 6, **config}
    model = Model(Config.model_validate(small), ImageSpec(channels, size, LABELS))
    model.prepare(Run(Trainer(max_steps=1, global_batch=4, ema=ema), seed=0, max_steps=1))
    return model


def batch_for(model: Model, B: int = 4) -> dict[str, Tensor]:
    assert isinstance(model.spec, ImageSpec)
    C, S = model.spec.channels, model.spec.image_size
    random = torch.Generator().manual_seed(1)
    image = torch.rand(B, C, S, S, generator=random) * 2 - 1
    return {"image": image, "label": torch.arange(B) % len(LABELS)}


def phases(model: Model, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    made = []
    assert model.run is not None
    for number, phase in enumerate(model.phases()):
        model._noise = _Noise(number, model.run, torch.device("cpu"))
        made.append(phase.loss(batch))
    return made


# Networks.


@pytest.mark.parametrize("size", [8, 10, 14, 24, 28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_at_every_size(size: int, channels: int) -> None:
    model = build(size, channels, conditional=True).eval()
    images = model.sample(SampleNoise(0, 0, 3), Options())
    assert images.shape == (3, channels, size, size)
    assert images.abs().max() <= 1
    assert model.discriminator(images, torch.tensor([0, 1, 2])).shape == (3,)


def test_at_64_pixels_it_is_the_published_network() -> None:
    """Parameters of pytorch/examples' DCGAN: 3,576,704 and 2,765,568."""
    model = Model(Config(objective="vanilla"), ImageSpec(3, 64))
    assert sum(p.numel() for p in model.generator.parameters()) == 3_576_704
    assert sum(p.numel() for p in model.discriminator.parameters()) == 2_765_568


@pytest.mark.parametrize(
    ("size", "hint"), [(30, "take 28 or 32"), (4, "take 8"), (100, "take 96 or 112")]
)
def test_other_sizes_name_the_nearest_that_work(size: int, hint: str) -> None:
    with pytest.raises(InputError, match=f"image_size={size}: .* times a power of two") as error:
        build(size)
    assert hint in str(error.value.hint)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_objective_decides_the_normalization(objective: str) -> None:
    model = build(16, objective=objective)
    kinds = {type(m) for m in model.discriminator.modules()}
    is_batch = objective in ("vanilla", "lsgan")
    assert (nn.BatchNorm2d in kinds) == is_batch
    assert any("parametrizations" in n for n, _ in model.named_parameters()) == (
        objective == "hinge"
    )
    if is_batch:  # never after the first convolution, and no statistics of another batch
        assert [type(m).__name__ for m in model.discriminator.down][:3] == [
            "Conv2d",
            "LeakyReLU",
            "Conv2d",
        ]
        assert not list(model.discriminator.buffers())


def test_the_spectral_norm_of_every_layer_is_one() -> None:
    model = build(16, objective="hinge", conditional=True)
    for _ in range(30):  # of power iteration
        phases(model, batch_for(model))
    D = model.discriminator.eval()
    layers = [m for m in D.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))]
    assert len(layers) == 4
    for layer in layers:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=2e-3), layer


def test_the_projection_is_an_inner_product_with_the_class() -> None:
    D = build(conditional=True).discriminator
    images = batch_for(build())["image"]
    first, second = torch.zeros(4, dtype=torch.long), torch.full((4,), 2)
    assert D.embed is not None
    expected = D.down(images).flatten(1) @ (D.embed.weight[0] - D.embed.weight[2])
    assert torch.allclose(D(images, first) - D(images, second), expected, atol=1e-6)
    assert expected.abs().min() > 0


def test_the_projection_knows_where_in_the_picture_something_is() -> None:
    D = build(16, conditional=True).discriminator.eval()
    image = torch.zeros(2, 3, 16, 16)
    image[0, :, 2:6, 2:6], image[1, :, 10:14, 10:14] = 1, 1
    first, second = torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long)
    difference = D(image, first) - D(image, second)
    assert (difference[0] - difference[1]).abs() > 1e-4


def test_the_class_has_a_shape_of_its_own_before_any_training() -> None:
    """Without noise, classes still differ from place to place."""
    model = build(16, conditional=True).eval()
    model.generator.fit_statistics()
    images = model.generator(torch.zeros(2, 6), torch.tensor([0, 1]))
    inner = (images[0] - images[1])[:, 4:12, 4:12]  # away from the border's padding
    assert inner.std() > 1e-3


def test_the_generator_makes_another_picture_for_another_class() -> None:
    model = build(conditional=True).eval()
    boot, bag, third, default = (
        model.sample(SampleNoise(0, 1, 2), Options(label=label))
        for label in ("boot", "bag", "2", None)
    )
    assert not torch.allclose(boot, bag, atol=1e-3)
    assert torch.equal(bag, third)
    assert torch.allclose(default[1], bag[1], atol=1e-6)  # samples 1 and 2: shirt, bag


# The game.


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("conditional", [False, True])
def test_every_weight_learns_from_its_phase(objective: str, *, conditional: bool) -> None:
    model = build(16, objective=objective, conditional=conditional)
    of_discriminator, of_generator = phases(model, batch_for(model))
    of_discriminator["loss"].backward()
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(p.grad is not None and p.grad.any() for p in model.discriminator.parameters())
    of_generator["loss"].backward()
    assert all(p.grad is not None and p.grad.any() for p in model.generator.parameters())


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_half_precision_keeps_losses_and_pictures_in_full(objective: str) -> None:
    model = build(16, objective=objective, conditional=True, augment=("color", "cutout"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = phases(model, batch_for(model))
        assert model.generator(torch.randn(2, 6), torch.tensor([0, 1])).dtype == torch.float32
    for each in terms:
        assert each["loss"].dtype == torch.float32
        each["loss"].backward()


def test_relativistic_penalty_is_half_gamma_times_r1_plus_r2() -> None:
    model = build(objective="relativistic", conditional=True, gamma=3.0)
    batch = batch_for(model)
    terms = phases(model, batch)[0]
    assert model.run is not None
    model._noise = _Noise(0, model.run, torch.device("cpu"))
    fake = model._fake(batch["image"], batch["label"]).detach()
    critic = lambda x: model.discriminator(x, batch["label"])  # noqa: E731
    r1, r2 = zero_centered_penalty(critic, batch["image"]), zero_centered_penalty(critic, fake)
    assert torch.allclose(terms["penalty"], 1.5 * (r1 + r2))
    pairs = nn.functional.softplus(critic(fake) - critic(batch["image"])).mean()
    assert torch.allclose(terms["loss"], pairs + terms["penalty"])


def test_d_steps_are_phases_with_batches_of_their_own() -> None:
    model = build(objective="wgan_gp", d_steps=5)
    assert [phase.optimizer for phase in model.phases()] == [0, 0, 0, 0, 0, 1]
    assert model.batches_per_step == 5
    noises = [terms["spread_fake"] for terms in phases(model, batch_for(model))[:5]]
    assert len({n.item() for n in noises}) == 5


def test_both_phases_see_augmented_pictures_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(augment=("cutout",), objective="relativistic")
    seen: list[Tensor] = []
    monkeypatch.setattr(
        model.discriminator, "forward", lambda x, y: seen.append(x) or x.mean((1, 2, 3))
    )
    phases(model, batch_for(model))
    assert len(seen) == 3  # both kinds; fakes, reals
    assert all((x == 0).flatten(1).any(1).all() for x in seen)  # a hole in each
    assert seen[1].requires_grad


# Statistics of the batch norm, average of the weights.


def test_a_sample_does_not_depend_on_its_neighbors() -> None:
    model = build(conditional=True).eval()
    together = model.sample(SampleNoise(7, 0, 5), Options())
    alone = torch.cat([model.sample(SampleNoise(7, i, 1), Options()) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_averaged_weights_sample_with_statistics_of_their_own() -> None:
    model = build(ema=0.5).eval()
    own = model.sample(SampleNoise(0, 0, 2), Options())
    assert model.ema is not None
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.mul_(3)
        model.ema.update(10**6)
    average = model.ema.state_dict()
    with model.averaged_weights():
        made = model.sample(SampleNoise(0, 0, 2), Options())
    after = model.sample(SampleNoise(0, 0, 2), Options())
    fresh = build().eval()
    fresh.load_state_dict({**model.state_dict(), **average})
    assert torch.equal(made, fresh.sample(SampleNoise(0, 0, 2), Options()))
    assert not torch.allclose(made, own)
    assert not torch.allclose(made, after)


def test_statistics_are_those_of_the_weights_in_use() -> None:
    """The first layer is linear in z: its outputs have mean 0 and variance |row|^2."""
    model = build(latent_dim=16)
    model.eval().sample(SampleNoise(0, 0, 1), Options())
    norm = model.generator.norms[0].norm
    rows = model.generator.project.weight.square().sum(1).view(-1, 16).mean(1)
    assert torch.allclose(norm.running_var, rows, rtol=0.15)
    assert norm.running_mean.abs().max() < 0.1 * rows.sqrt().max()


# Samples.


def test_truncated_noise_has_the_truncated_normal_distribution() -> None:
    z = truncated(SampleNoise(0, 0, 40).randn(100), 0.7)
    assert z.abs().max() <= 0.7
    law = scipy.stats.truncnorm(-0.7, 0.7)
    assert scipy.stats.kstest(z.flatten().numpy(), law.cdf).pvalue > 0.01
    many = torch.linspace(-9, 9, 50)
    assert (truncated(many, 2.0).diff() >= 0).all()
    assert torch.allclose(truncated(many, 20.0), many, atol=1e-3)


def test_interpolations_stay_smooth_when_truncated() -> None:
    model = build(28, 1).eval()
    options = Options(truncation=0.5)
    frames = model.sample(InterpolatedNoise(0, 0, 33, steps=32), options)
    ends = model.sample(SampleNoise(0, 0, 2), options)
    assert torch.allclose(frames[[0, 32]], ends, atol=1e-5)
    steps = (frames[1:] - frames[:-1]).abs().amax((1, 2, 3))
    assert steps.max() < 0.25 * (ends[0] - ends[1]).abs().max()


def test_wrong_classes_are_said_in_a_sentence() -> None:
    model = build(conditional=True).eval()
    with pytest.raises(InputError, match="label=shrt: the model knows no such class") as error:
        model.sample(SampleNoise(0, 0, 1), Options(label="shrt"))
    assert error.value.hint == "did you mean 'shirt'?"
    with pytest.raises(InputError, match=r"model\.conditional=true: the data has no classes"):
        Model(Config(conditional=True), ImageSpec(3, 8))


def test_validation_is_one_distance_for_the_whole_batch() -> None:
    model = build(conditional=True).eval()
    values = model.evaluate_batch(batch_for(model, 6))["block_kid"]
    assert values.shape == (6,)
    assert len(set(values.tolist())) == 1
    assert model.evaluate_batch(batch_for(model, 1))["block_kid"].isnan().all()


# Health.


def test_spread_is_the_pairwise_distance_within_classes() -> None:
    x = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    pairs = [(a - b).square().mean() / 2 for a, b in itertools.combinations(x, 2)]
    assert torch.allclose(_spread(x, None), torch.stack(pairs).mean())
    label = torch.tensor([0, 0, 0, 1, 1, 1, 2])  # classes of equal size weigh the same
    within = [
        (x[i] - x[j]).square().mean() / 2
        for i, j in itertools.combinations(range(6), 2)
        if label[i] == label[j]
    ]
    assert torch.allclose(_spread(x, label), torch.stack(within).mean())
    assert _spread(x, torch.arange(7)).item() == 0


HEALTHY = {
    "d_accuracy": 0.8,
    "d_real": 1.0,
    "d_fake": -1.0,
    "g_loss": 0.9,
    "d_spread_real": 0.3,
    "d_spread_fake": 0.2,
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"d_accuracy": 0.995}, ["discriminator wins"]),
        ({"d_spread_fake": 0.001}, ["mode collapse"]),
        ({"d_fake": -80.0}, ["diverging loss"]),
        ({"g_loss": 90.0, "d_accuracy": 1.0}, ["discriminator wins", "diverging loss"]),
        ({"d_spread_real": 0.0, "d_spread_fake": 0.0}, []),  # a class each: nothing to compare
    ],
)
def test_health_names_the_failure(change: dict[str, float], expected: list[str]) -> None:
    model = build(objective="vanilla")
    model.step = 1000
    assert model.health(HEALTHY | change) == expected


def test_a_generator_of_one_picture_is_a_mode_collapse() -> None:
    model = build(objective="lsgan")
    model.step = 1000
    with torch.no_grad():
        for weight in model.generator.parameters():
            weight.zero_()
    means = {f"d_{k}": v.item() for k, v in phases(model, batch_for(model))[0].items()}
    assert "mode collapse" in model.health(means)


def test_a_critic_that_wins_is_no_failure() -> None:
    model = build(objective="wgan_gp")
    assert model.health(HEALTHY | {"d_accuracy": 1.0, "d_real": 300.0}) == []


# Runs.


def recipe_at(folder: Path, **model: object) -> dict[str, object]:
    paint(folder / "photos", 20, 16)
    return {
        "family": "dcgan",
        "seed": 1,
        "data": {"kind": "images", "train": str(folder / "photos"), "image_size": 8},
        "model": {"num_features": 8, "latent_dim": 8, "features": "none", **model},
        "trainer": {
            "max_steps": 6,
            "global_batch": 8,
            "ema": 0.9,
            "log_every": 1,
            "validate_every": 4,
            "checkpoint_every": 3,
            "preview_every": 6,
            "device": "cpu",
            "precision": "fp32",
        },
    }


def test_resume_is_exact_with_discriminator_steps_and_augmentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))
    data = recipe_at(tmp_path, objective="hinge", d_steps=2, augment=["color", "cutout"])
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(data))
    train(load_recipe(path), out=tmp_path / "whole")
    train(load_recipe(path, ["trainer.max_steps=3"]), out=tmp_path / "cut")
    train(load_recipe(path), out=tmp_path / "cut", resume=str(tmp_path / "cut"))
    one, other = (load(tmp_path / n / "checkpoints/last.ckpt") for n in ("whole", "cut"))
    assert one["step"] == other["step"] == 6
    assert one["samples"] == 6 * 2 * 8
    for key in ("weights", "ema", "optimizers"):
        assert_same(one[key], other[key])
    steps = [row for row in rows_of(tmp_path / "whole") if row["event"] == "step"]
    assert all(0 <= row["train/d_accuracy"] <= 1 for row in steps), "a mean over d_steps, not a sum"


@pytest.mark.parametrize("objective", ["vanilla", "relativistic"])
def test_a_short_training_is_healthy(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(recipe_at(tmp_path, objective=objective)))
    train(load_recipe(path, ["trainer.max_steps=40", "trainer.log_every=10"]), out=tmp_path / "run")
    rows = [row for row in rows_of(tmp_path / "run") if row["event"] == "step"]
    assert len(rows) == 4
    assert not any("health" in row for row in rows)
