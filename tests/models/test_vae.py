"""The VAE against exact likelihoods, closed forms and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from aigc_cli.errors import RecipeError
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.image.vae import (
    Config,
    Model,
    Options,
    _hash,
    fixed_coin,
    log_mean_exp,
)
from aigc_cli.nn.divergence import kl_to_standard_normal
from aigc_cli.recipe.load import load_recipe
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.image import ImageSpec

SPEC = ImageSpec(channels=1, image_size=4)
SHAPE = (1, 4, 4)


def model(spec: ImageSpec = SPEC, **config: object) -> Model:
    torch.manual_seed(0)
    settings: dict[str, object] = {"latent_dim": 3, "hidden_dims": (8,), "channels": (4, 8)}
    built = Model(Config(**{**settings, **config}), spec).eval()  # type: ignore[arg-type]
    built.run = Run(Trainer(max_steps=1, global_batch=4), seed=0, max_steps=1)
    return built


def pictures(n: int = 4, spec: ImageSpec = SPEC, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    levels = torch.randint(0, 256, (n, spec.channels, *[spec.image_size] * 2), generator=random)
    return levels / 127.5 - 1


def terms(built: Model, x: Tensor, seed: int = 0) -> dict[str, Tensor]:
    assert built.run is not None
    built._noise = _Noise(seed, built.run, torch.device("cpu"))
    return built.loss(built.expand({"image": x}))


def linear_gaussian() -> tuple[Model, MultivariateNormal]:
    """x = W z + b + sigma e, whose marginal is N(b, W W' + sigma^2 I)."""
    built = model(likelihood="gaussian", latent_dim=2)
    linear = torch.nn.Linear(2, 16)
    W, b = 0.2 * torch.randn(16, 2), 0.1 * torch.randn(16)
    linear.weight.data, linear.bias.data = W, b
    built.decoder.net = torch.nn.Sequential(linear, torch.nn.Unflatten(1, SHAPE))
    built.decoder.logvar.data.fill_(0.0)
    variance = built.decoder(torch.zeros(1, 2))[1].exp().detach()
    covariance = W @ W.T + variance * torch.eye(16)
    return built, MultivariateNormal(b, covariance)


def test_importance_sampling_finds_the_exact_likelihood_of_a_linear_gaussian() -> None:
    built, exact = linear_gaussian()
    torch.nn.init.zeros_(built.encoder.head.weight)  # near the prior: weights without heavy tails
    x = exact.sample((3,)).view(3, *SHAPE)
    with torch.no_grad():
        nll = built.nll(x, 20_000, SampleNoise(0, 0, 3))
    torch.testing.assert_close(nll.float(), -exact.log_prob(x.flatten(1)), atol=0.05, rtol=0)


def test_one_sample_of_the_exact_posterior_is_the_exact_likelihood() -> None:
    built, _ = linear_gaussian()
    linear = built.decoder.net[0]
    assert isinstance(linear, torch.nn.Linear)
    # A posterior with independent dimensions needs orthogonal columns.
    W, b = torch.linalg.qr(linear.weight.data)[0] * torch.tensor([1.0, 0.5]), linear.bias.data
    linear.weight.data = W
    variance = float(built.decoder(torch.zeros(1, 2))[1].detach().exp())
    exact = MultivariateNormal(b, W @ W.T + variance * torch.eye(16))
    precision = W.square().sum(0) / variance + 1
    x = exact.sample((3,)).view(3, *SHAPE)

    class Posterior(torch.nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            mu = (x.flatten(1) - b) @ W / variance / precision
            return mu, -precision.log().expand_as(mu)

    built.encoder = Posterior()  # type: ignore[assignment]
    with torch.no_grad():
        nll = built.nll(x, 1, SampleNoise(0, 0, 3))
        nelbo = built.evaluate_batch({"image": x})["nelbo"]
    torch.testing.assert_close(nll.float(), -exact.log_prob(x.flatten(1)), atol=1e-4, rtol=1e-4)
    # The bound has the same mean, with the noise of one reconstruction.
    assert (nelbo - nll).abs().max() < 6


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_one_importance_sample_is_the_elbo(likelihood: str) -> None:
    built = model(likelihood=likelihood)
    x = pictures(1).sign().expand(4000, -1, -1, -1)
    with torch.no_grad():
        nll = built.nll(x, 1, SampleNoise(0, 0, 4000)).mean()
        nelbo = built.evaluate_batch({"image": x})["nelbo"].mean()
    torch.testing.assert_close(nll.float(), nelbo, atol=0.15, rtol=0)


def test_more_importance_samples_never_loosen_the_bound() -> None:
    built = model(likelihood="gaussian")
    built.encoder.head.bias.data.normal_(generator=torch.Generator().manual_seed(0))
    x = pictures(200)
    with torch.no_grad():
        bounds = [built.nll(x, k, SampleNoise(1, 0, 200)).mean() for k in (1, 8, 64)]
    assert bounds[0] > bounds[1] > bounds[2]


def test_importance_sampling_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    built, x = model(), pictures(2).sign()
    torch.nn.init.zeros_(built.encoder.head.weight)
    with torch.no_grad():
        whole = built.nll(x, 2000, SampleNoise(0, 0, 2))
        monkeypatch.setattr("aigc_cli.models.image.vae.MOST_AT_ONCE", 300 * x.numel())
        pieces = built.nll(x, 2000, SampleNoise(0, 0, 2))
    torch.testing.assert_close(pieces, whole, atol=0.05, rtol=0)


def test_kl_divergence_is_that_of_torch() -> None:
    mu, logvar = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), expected)


@pytest.mark.parametrize("variance", ["scalar", "pixel"])
def test_gaussian_likelihood_is_that_of_torch(variance: str) -> None:
    built, x = model(likelihood="gaussian", variance=variance), pictures()
    z = torch.randn(4, 2, 3)
    for k in range(2):
        mean, logvar = built.decoder(z[:, k])
        expected = Normal(mean, (logvar / 2).exp()).log_prob(x).flatten(1).sum(1)
        torch.testing.assert_close(built.log_likelihood(x, z)[:, k], expected)


def test_bernoulli_likelihood_is_that_of_torch() -> None:
    built, x = model(), pictures().sign()
    z = torch.randn(4, 1, 3)
    logits, _ = built.decoder(z[:, 0])
    expected = Bernoulli(logits=logits).log_prob((x + 1) / 2).flatten(1).sum(1)
    torch.testing.assert_close(built.log_likelihood(x, z)[:, 0], expected)


def test_elbo_is_reconstruction_and_kl() -> None:
    made = terms(model(beta=4.0), pictures().sign())
    torch.testing.assert_close(made["loss"], made["reconstruction"] + 4 * made["kl"])


def test_iwae_with_one_sample_has_the_gradient_of_the_elbo_in_the_mean() -> None:
    x = pictures(1).sign().expand(2000, -1, -1, -1)
    gradients = []
    for objective in ("elbo", "iwae"):
        built = model(objective=objective)
        terms(built, x)["loss"].backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in built.parameters() if p.grad is not None])
        )
    elbo, iwae = gradients
    assert torch.nn.functional.cosine_similarity(elbo, iwae, dim=0) > 0.99


def test_iwae_bound_is_tighter_than_the_elbo() -> None:
    x = pictures(500).sign()
    few, many = (terms(model(objective="iwae", num_samples=k), x)["loss"] for k in (1, 32))
    assert many < few


def test_log_mean_exp_survives_large_numbers() -> None:
    torch.testing.assert_close(
        log_mean_exp(torch.tensor([[-1000.0, -1000.0]])), torch.tensor([-1000.0])
    )


def test_free_bits_charge_each_dimension_at_least_so_much() -> None:
    x = pictures().sign()
    made = terms(model(free_bits=50.0), x)
    torch.testing.assert_close(made["loss"], made["reconstruction"] + 3 * 50.0)


def test_free_bits_are_of_the_whole_batch() -> None:
    """Which dimensions are free is the same for all parts, whose gradients add up."""
    built, x = model(), pictures(8).sign()
    kl = kl_to_standard_normal(*built.encoder(x))
    level = float(kl.mean(0).median().detach())
    built = model(free_bits=level)
    whole = built.expand({"image": x})["free"]
    assert torch.equal(whole, (kl.mean(0) <= level).expand(8, -1))
    assert 0 < whole[0].sum() < 3
    parts = [terms_of(built, x[i : i + 4], whole[i : i + 4]) for i in (0, 4)]
    gradient = torch.autograd.grad(sum(parts) / 2, built.encoder.parameters())
    expected = torch.autograd.grad(terms_of(built, x, whole), built.encoder.parameters())
    for got, wanted in zip(gradient, expected, strict=True):
        torch.testing.assert_close(got, wanted)


def terms_of(built: Model, x: Tensor, free: Tensor) -> Tensor:
    """What free bits charge, alone."""
    assert built.run is not None
    built._noise = _Noise(0, built.run, torch.device("cpu"))
    made = built.loss({"image": x, "free": free})
    return made["loss"] - made["reconstruction"]


def test_kl_warmup_rises_linearly() -> None:
    built, x = model(kl_warmup=4, beta=2.0), pictures().sign()
    weights = []
    for built.step in (0, 1, 3, 9):
        made = terms(built, x)
        weights.append(float(((made["loss"] - made["reconstruction"]) / made["kl"]).detach()))
    assert weights == pytest.approx([0.5, 1.0, 2.0, 2.0], rel=1e-3)


def test_coins_fall_with_the_intensity_and_always_the_same() -> None:
    levels = torch.arange(256).view(1, 1, 16, 16) / 127.5 - 1
    many = levels.repeat(4000, 1, 1, 1)
    # Images that differ in one pixel only have unrelated coins.
    many[:, 0, 0, 0] = torch.arange(4000) % 256 / 127.5 - 1
    many[:, 0, 0, 1] = torch.arange(4000) // 256 / 127.5 - 1
    white = fixed_coin(many)
    assert torch.equal(white, fixed_coin(many.clone()))
    assert torch.equal(white[7:9], fixed_coin(many[7:9]))
    share = white.double().mean(0).flatten()[2:]
    p = torch.arange(2, 256) / 255
    error = (share - p) / (p * (1 - p) / 4000 + 1e-9).sqrt()
    assert error[:-1].abs().max() < 4.5
    assert 0.8 < error[:-1].std() < 1.2
    assert share[-1] == 1
    assert not fixed_coin(torch.full((2, 1, 4, 4), -1.0)).any()


def test_the_hash_is_that_of_unsigned_numbers() -> None:
    x = np.arange(-(2**31), 2**31, 1_000_003, dtype=np.int64).astype(np.int32)
    h = x.view(np.uint32).copy()
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = (h ^ h >> np.uint32(shift)) * np.uint32(factor)
    h ^= h >> np.uint32(16)
    assert (_hash(torch.from_numpy(x)).numpy().view(np.uint32) == h).all()


def test_coins_of_neighboring_pixels_are_independent() -> None:
    gray = torch.full((2000, 1, 4, 4), 127 / 127.5 - 1)
    gray[:, 0, 0, 0] = torch.arange(2000) % 256 / 127.5 - 1
    gray[:, 0, 0, 1] = torch.arange(2000) // 256 / 127.5 - 1
    correlation = torch.corrcoef(fixed_coin(gray).flatten(1)[:, 2:].double().T)
    assert (correlation - torch.eye(14)).abs().max() < 4.5 / math.sqrt(2000)


@pytest.mark.parametrize("how", ["threshold", "fixed", "dynamic"])
def test_binarized_pixels_are_black_or_white(how: str) -> None:
    x = pictures()
    made = model(binarize=how).prepared(x)
    assert set(made.unique().tolist()) == {-1.0, 1.0}
    if how == "threshold":
        assert torch.equal(made > 0, x >= 0)


def test_dynamic_binarization_differs_from_step_to_step() -> None:
    built, x = model(binarize="dynamic"), pictures()
    assert terms(built, x, seed=0)["loss"] != terms(built, x, seed=1)["loss"]
    assert torch.equal(built.prepared(x), model(binarize="fixed").prepared(x))


@pytest.mark.parametrize("size", [4, 7, 28])
def test_convolutions_fit_every_size(size: int) -> None:
    spec = ImageSpec(channels=3, image_size=size)
    built = model(spec, arch="conv", likelihood="gaussian", variance="pixel")
    x = pictures(2, spec)
    mean, logvar = built.decoder(built.encoder(x)[0])
    assert mean.shape == logvar.shape == x.shape


def test_reference_network_has_the_published_number_of_parameters() -> None:
    built = model(ImageSpec(channels=1, image_size=28), latent_dim=40, hidden_dims=(400,))
    encoder = 784 * 400 + 400 + 2 * (400 * 40 + 40)
    decoder = 40 * 400 + 400 + 400 * 784 + 784
    assert sum(p.numel() for p in built.parameters()) == encoder + decoder


def test_temperature_zero_is_one_picture_whatever_the_noise() -> None:
    built = model()
    made = built.sample(SampleNoise(0, 0, 3), Options(temperature=0.0))
    assert torch.equal(made[0], made[1])
    spread = built.sample(SampleNoise(0, 0, 3), Options())
    assert not torch.equal(spread[0], spread[1])


def test_drawn_pixels_have_the_expected_mean() -> None:
    built = model()
    drawn = built.sample(SampleNoise(0, 0, 4000), Options(temperature=0.0, mean=False))
    expected = built.sample(SampleNoise(0, 0, 1), Options(temperature=0.0))[0]
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(drawn.mean(0), expected, atol=0.08, rtol=0)


def test_traversal_moves_one_dimension_of_each_row_the_strongest_first() -> None:
    built = model(latent_dim=3, hidden_dims=(8,))
    first = built.decoder.net[0]
    assert isinstance(first, torch.nn.Linear)
    first.weight.data *= torch.tensor([0.01, 5.0, 0.5])  # dimension 1 matters most, then 2
    z = built._traversal(0, 15, 5)
    assert z[:5, 1].tolist() == pytest.approx([-3, -1.5, 0, 1.5, 3])
    assert z[5:10, 2].tolist() == pytest.approx([-3, -1.5, 0, 1.5, 3])
    assert (z != 0).sum(1).max() == 1
    assert torch.equal(built._traversal(5, 4, 5), z[5:9])  # batches continue


def test_reconstruction_takes_pictures_of_any_size() -> None:
    built = model(likelihood="gaussian")
    small, large = torch.rand(1, 3, 5) * 2 - 1, torch.rand(1, 40, 31) * 2 - 1
    for image in (small, large):
        made = built.sample(SampleNoise(0, 0, 2), Options(), image)
        assert made.shape == (2, 1, 4, 4)
        assert not torch.equal(made[0], made[1])
    exact = built.sample(SampleNoise(0, 0, 2), Options(temperature=0.0), large)
    assert torch.equal(exact[0], exact[1])


def test_it_learns_two_pictures() -> None:
    built = model(hidden_dims=(32,), lr=1e-2).train()
    x = pictures(2).sign().repeat(8, 1, 1, 1)
    optimizer = built.configure_optimizers()
    losses = []
    for step in range(100):
        made = terms(built, x, seed=step)["loss"]
        optimizer.zero_grad()
        made.backward()
        optimizer.step()
        losses.append(float(made.detach()))
    assert losses[0] > 10
    assert sum(losses[-10:]) / 10 < 2  # log 2 is the entropy of the data


def test_measures_are_those_promised() -> None:
    built = model(binarize="fixed")
    values = built.measure({"image": pictures()}, Options(num_importance=7))
    assert built.measures is not None
    assert values.keys() == built.measures.keys()
    assert all(v.shape == (4,) and v.isfinite().all() for v in values.values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.objective=iwae", "model.beta=2.0"], "iwae has no such term"),
        (["model.likelihood=gaussian"], "black and white pixels need likelihood bernoulli"),
        (["model.hidden_dims=[]"], "hidden_dims must name one or more layers"),
    ],
)
def test_contradictions_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe("vae_mnist_mlp", overrides)
