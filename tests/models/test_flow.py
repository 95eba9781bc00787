"""Flow matching against closed forms: Gaussian data, whose best velocity is known."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from aigc_cli.errors import InputError
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.image.flow import (
    Config,
    Model,
    Options,
    ResidualBlock,
    optimal_assignment,
    sinusoids,
)
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec

SPEC = ImageSpec(channels=1, image_size=8, labels=("cat", "dog", "owl"))


def model(spec: ImageSpec = SPEC, **config: object) -> Model:
    torch.manual_seed(0)
    settings: dict[str, object] = {"num_features": 4, "multipliers": (1, 2), "num_blocks": 1}
    built = Model(Config(**{**settings, **config}), spec).eval()  # type: ignore[arg-type]
    built.run = Run(Trainer(max_steps=1, global_batch=4), seed=0, max_steps=1)
    return built


def awake(built: Model) -> Model:
    """With last layers as large as all others, so that inputs matter."""
    for parameter in built.net.parameters():
        if parameter.ndim == 4 and parameter.abs().max() < 1e-3:
            nn.init.xavier_uniform_(parameter)
    return built


def loss(built: Model, n: int = 4, seed: int = 0) -> Tensor:
    assert built.run is not None
    image = torch.rand(n, *built.shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    built._noise = _Noise(seed, built.run, torch.device("cpu"))
    return built.loss({"image": image, "label": torch.arange(n) % 3})["loss"]


class GaussianVelocity(nn.Module):
    """E[image - noise | x_t] for images from N(mean, deviation^2), pixel by pixel."""

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = mean, deviation

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        t = t[:, None, None, None]
        variance = (1 - t) ** 2 + t**2 * self.deviation**2  # of x_t
        covariance = t * self.deviation**2 - (1 - t)  # of image - noise with x_t
        return self.mean + covariance / variance * (x - t * self.mean)


class Answers(nn.Module):
    """Always the same."""

    def __init__(self, answer: Tensor | float) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
        return self.answer + torch.zeros_like(x)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun"])
def test_the_best_velocity_for_gaussian_data_gives_its_mean_and_variance(solver: str) -> None:
    spec = ImageSpec(channels=1, image_size=2)
    built = model(spec, multipliers=(1,))
    mean = torch.tensor([[[-0.3, 0.0], [0.1, 0.4]]])
    deviation = torch.tensor([[[0.05, 0.1], [0.15, 0.2]]])
    built.net = GaussianVelocity(mean, deviation)  # type: ignore[assignment]
    options = Options(solver=solver, steps=200)  # type: ignore[arg-type]
    made = built.sample(SampleNoise(0, 0, 4000), options)
    torch.testing.assert_close(made.mean(0), mean, atol=0.012, rtol=0)
    torch.testing.assert_close(made.std(0), deviation, atol=0, rtol=0.06)
    # Each sample keeps the order of its noise: the exact flow is mean + deviation * noise.
    exact = mean + deviation * SampleNoise(0, 0, 4000).randn(1, 2, 2)
    torch.testing.assert_close(made, exact.clamp(-1, 1), atol=0.05, rtol=0)


def test_the_best_velocity_for_gaussian_data_has_the_least_loss() -> None:
    spec = ImageSpec(channels=1, image_size=2)
    built = model(spec, multipliers=(1,))
    mean, deviation = torch.zeros(1, 2, 2), torch.full((1, 2, 2), 0.5)
    data = mean + deviation * torch.randn(4000, 1, 2, 2)

    def error(m: Tensor, d: Tensor) -> float:
        built.net = GaussianVelocity(m, d)  # type: ignore[assignment]
        return float(built.evaluate_batch({"image": data})["flow_loss"].mean())

    best = error(mean, deviation)
    assert best < error(mean, 1.3 * deviation)
    assert best < error(mean, 0.7 * deviation)
    assert best < error(mean + 0.2, deviation)


def test_a_preconditioned_network_that_says_nothing_is_the_best_linear_guess() -> None:
    """For images from N(0, sigma^2) that guess is the best velocity of all."""
    built = model(sigma_data=0.6)
    best = GaussianVelocity(torch.zeros(1, 8, 8), torch.full((1, 8, 8), 0.6))
    x, t = torch.randn(5, 1, 8, 8), torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0])
    built.net = Answers(0.0)  # type: ignore[assignment]
    torch.testing.assert_close(built.velocity(x, t, None), best(x, t, None))


def test_what_a_preconditioned_network_learns_has_the_size_of_the_data_at_all_times() -> None:
    """The answer that makes the velocity exact is the image at t = 0 and minus the noise at 1."""
    built = model(sigma_data=0.6)
    x0, x1 = torch.randn(2, 4, 1, 8, 8).unbind()
    x1 = 0.6 * x1
    for t, answer in ((0.0, x1 / 0.6), (1.0, -x0)):
        built.net = Answers(answer)  # type: ignore[assignment]
        error = built._error(x0, x1, torch.full((4,), t), None)
        torch.testing.assert_close(error, torch.zeros(4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun"])
def test_the_last_step_goes_straight_to_the_image_that_the_model_takes_it_for(solver: str) -> None:
    built = model()
    seen: list[float] = []

    class Timed(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            seen.append(float(t[0]))
            return torch.full_like(x, 0.1)

    built.net = Timed()  # type: ignore[assignment]
    built.sample(SampleNoise(0, 0, 1), Options(steps=4, solver=solver))  # type: ignore[arg-type]
    assert seen[-1] == 0.75
    assert max(seen) == 0.75


def test_the_target_is_picture_minus_noise() -> None:
    built = model()
    x0, x1 = torch.randn(2, 4, 1, 8, 8).unbind()
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    seen: list[Tensor] = []

    class Known(nn.Module):
        def forward(self, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
            seen.append(x)
            return x1 - x0 + 2

    built.net = Known()  # type: ignore[assignment]
    torch.testing.assert_close(built._error(x0, x1, t, None), torch.full((4,), 4.0))
    torch.testing.assert_close(seen[0], (1 - t.view(4, 1, 1, 1)) * x0 + t.view(4, 1, 1, 1) * x1)


def test_before_training_the_loss_is_that_of_no_velocity() -> None:
    built, n = model(), 500
    # E |image - noise|^2 = 1 + 1/3 for uniform pixels in [-1, 1].
    assert float(loss(built, n).detach()) == pytest.approx(4 / 3, rel=0.02)


def test_guidance_mixes_the_velocity_with_and_without_class() -> None:
    built = awake(model())
    noise = SampleNoise(0, 0, 3).randn(*built.shape)
    t, label = torch.zeros(3), torch.tensor([1, 1, 1])
    with torch.no_grad():
        conditional = built.net(noise, t, label)
        free = built.net(noise, t, torch.full((3,), 3))
    assert not torch.allclose(conditional, free)
    for w in (0.0, 1.0, 2.5):
        options = Options(steps=1, solver="euler", guidance=w, label="dog")
        made = built.sample(SampleNoise(0, 0, 3), options)
        expected = noise + free + w * (conditional - free)
        torch.testing.assert_close(made, expected.clamp(-1, 1))


def test_a_hidden_class_is_the_one_that_guidance_leans_on() -> None:
    built = model(label_dropout=1.0)
    labels: list[Tensor] = []
    built.net.register_forward_hook(lambda net, args, out: labels.append(args[2]))
    loss(built)
    assert labels[0].tolist() == [3] * 4


def test_label_dropout_hides_its_part_of_the_classes() -> None:
    built = model(label_dropout=0.25)
    labels: list[Tensor] = []
    built.net.register_forward_hook(lambda net, args, out: labels.append(args[2]))
    loss(built, 2000)
    assert float((labels[0] == 3).float().mean()) == pytest.approx(0.25, abs=0.04)


def test_classes_take_turns_unless_one_is_chosen() -> None:
    built = awake(model())
    one = Options(steps=1, label="owl")
    turns = built.sample(SampleNoise(0, 0, 3), Options(steps=1))
    torch.testing.assert_close(turns[2], built.sample(SampleNoise(0, 0, 3), one)[2])
    assert not torch.equal(turns[1], built.sample(SampleNoise(0, 0, 3), one)[1])
    with pytest.raises(InputError, match="label=bird: the model knows no such class"):
        built.sample(SampleNoise(0, 0, 1), Options(label="bird"))


def test_samples_do_not_depend_on_the_batch() -> None:
    built = awake(model())
    options = Options(steps=2, guidance=2.0)
    whole = built.sample(SampleNoise(5, 0, 4), options)
    parts = [built.sample(SampleNoise(5, first, 2), options) for first in (0, 2)]
    torch.testing.assert_close(whole, torch.cat(parts))


def test_without_classes_there_is_nothing_conditional() -> None:
    for built in (model(ImageSpec(1, 8)), model(conditional=False)):
        assert not built.conditional
        assert built.net.label is None
        assert built.sample(SampleNoise(0, 0, 2), Options(steps=1, guidance=3.0)).shape[0] == 2


def test_optimal_assignment_is_the_best_of_all_permutations() -> None:
    x0, x1 = torch.randn(2, 5, 3).unbind()

    def cost(order: list[int]) -> float:
        return float((x0[order] - x1).square().sum())

    best = min(cost(list(order)) for order in itertools.permutations(range(5)))
    assert cost(optimal_assignment(x0, x1).tolist()) == pytest.approx(best, rel=1e-5)


def test_optimal_transport_shortens_paths() -> None:
    built = model(coupling="ot")
    assert loss(built, 200) < loss(model(), 200)  # without a velocity the loss is their length


def test_logit_normal_times_prefer_the_middle() -> None:
    times: list[Tensor] = []
    built = model(time_sampling="logit_normal")
    built.net.register_forward_hook(lambda net, args, out: times.append(args[1]))
    loss(built, 2000)
    assert times[0].std() < 0.24  # uniform: 0.289
    assert float(times[0].mean()) == pytest.approx(0.5, abs=0.02)


def test_validation_times_are_spread_evenly() -> None:
    times: list[Tensor] = []
    built = model()
    built.net.register_forward_hook(lambda net, args, out: times.append(args[1]))
    built.evaluate_batch({"image": torch.zeros(64, *built.shape), "label": torch.arange(64) % 3})
    gaps = times[0].sort().values.diff()
    assert gaps.max() < 2.1 / 64
    assert times[0].min() >= 0


def test_reference_network_has_the_parameters_of_ddpm() -> None:
    """35.7 million for CIFAR-10 in Ho et al., 2020, whose embedding shifts and does not scale."""
    spec = ImageSpec(channels=3, image_size=32)
    config = Config(num_features=128, multipliers=(1, 2, 2, 2), attention=(16,), dropout=0.1)
    with torch.device("meta"):
        net = Model(config, spec).net
    count = sum(p.numel() for p in net.parameters())
    scales = [m.affine for m in net.modules() if isinstance(m, ResidualBlock)]
    count -= sum(p.numel() for affine in scales for p in affine.parameters()) // 2
    assert count == 35_746_307


def test_patches_keep_the_place_of_pixels() -> None:
    built = awake(model(patch_size=2, multipliers=(1,)))
    with torch.no_grad():
        x = torch.zeros(1, 1, 8, 8, requires_grad=False)
        v = built.net(x, torch.zeros(1), torch.zeros(1, dtype=torch.long))
    assert v.shape == x.shape


def test_embedding_is_the_sinusoids_of_the_time() -> None:
    made = sinusoids(torch.tensor([0.0, 2.0]), 5)
    assert made[0].tolist() == [1, 1, 0, 0, 0]
    torch.testing.assert_close(made[1, 0], torch.tensor(2.0).cos())
    torch.testing.assert_close(made[1, 3], torch.tensor(2.0 / 100).sin())


def test_sizes_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(InputError, match=r"need a multiple of 8 pixels, data\.image_size is 28"):
        model(ImageSpec(1, 28), multipliers=(1, 1, 1), patch_size=2)


def test_it_learns_one_picture() -> None:
    built = model(lr=5e-3, multipliers=(1,), label_dropout=0.0)
    assert built.run is not None
    image = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    batch = {"image": image.repeat(32, 1, 1, 1), "label": torch.zeros(32, dtype=torch.long)}
    optimizer = built.configure_optimizers()
    for step in range(120):
        built._noise = _Noise(step, built.run, torch.device("cpu"))
        optimizer.zero_grad()
        built.loss(batch)["loss"].backward()
        optimizer.step()
    made = built.sample(SampleNoise(0, 0, 4), Options(label="cat"))
    assert (made - image).abs().mean() < 0.15
