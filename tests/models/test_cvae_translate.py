"""The conditional VAE against torch's own formulas, and its promises to the user."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as torch_kl

from aigc_cli.errors import InputError
from aigc_cli.models._base import Batch, Run, _Noise
from aigc_cli.models.image.cvae_translate import (
    Config,
    Model,
    Options,
    Reduction,
    drawn,
    kl_divergence,
    reduced,
)
from aigc_cli.nn.features import random_features
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs import Spec
from aigc_cli.specs.image import ImageSpec, PairSpec, UnpairedSpec

S = 32
PAIRS = PairSpec(source_channels=1, target_channels=3, image_size=S)
PAINTINGS = UnpairedSpec(channels=3, image_size=S)


def build(spec: Spec = PAIRS, **config: Any) -> Model:
    torch.manual_seed(0)
    model = Model(Config(num_features=4, **config), spec)
    model.run = Run(Trainer(max_steps=1, global_batch=2), 0, 1)
    model._noise = _Noise(0, model.run, torch.device("cpu"))
    return model


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch_of(spec: Spec) -> Batch:
    match spec:
        case PairSpec():
            return {"source": pictures(2, 1, S, S), "target": pictures(2, 3, S, S, seed=1)}
        case UnpairedSpec():
            return {"a": pictures(2, 3, S, S), "b": pictures(2, 3, S, S, seed=1)}
    return {"image": pictures(2, 3, S, S)}


def translated(
    model: Model, image: Tensor, options: Options, count: int, first: int = 0, *references: Tensor
) -> Tensor:
    with torch.no_grad():
        return model.eval().sample(SampleNoise(0, first, count), options, image, references)


def test_kl_is_that_of_torch() -> None:
    q, p = torch.randn(3, 8), torch.randn(3, 8)
    expected = torch_kl(
        Normal(q[:, :4], (q[:, 4:] / 2).exp()), Normal(p[:, :4], (p[:, 4:] / 2).exp())
    )
    torch.testing.assert_close(kl_divergence(q, p), expected)


def test_drawn_has_the_asked_mean_and_spread() -> None:
    gaussian = torch.tensor([[2.0, -1.0, 0.0, 2 * torch.tensor(3.0).log()]])
    z = drawn(gaussian, torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    torch.testing.assert_close(z, torch.tensor([[3.0, 2.0], [2.0, -1.0]]))


def test_without_free_bits_the_gradient_is_that_of_the_evidence_bound() -> None:
    model = build(free_bits=0.0)
    assert model.translator.prior is not None
    torch.nn.init.normal_(model.translator.prior.weight, std=0.5)
    batch = batch_of(PAIRS)
    model.loss(batch)["loss"].backward()
    found = [p.grad for p in model.parameters()]
    model.zero_grad()
    model._noise = _Noise(0, model.run, torch.device("cpu"))  # type: ignore[arg-type]
    encoded = model.translator.encode(batch["source"])
    q, p = model.posterior(*batch.values()), model.translator.prior_of(encoded)
    made = model.translator.decode(encoded, drawn(q, model.randn(2, 16)))
    assert p is not None
    bound = (made - batch["target"]).abs().mean() + 1e-3 * kl_divergence(q, p).sum(1).mean()
    bound.backward()
    for gradient, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


def test_free_bits_spare_the_posterior_and_not_the_prior() -> None:
    model = build(free_bits=100.0, kl_weight=1.0)
    batch = batch_of(PAIRS)
    encoded = model.translator.encode(batch["source"])
    q, p = model.posterior(*batch.values()), model.translator.prior_of(encoded)
    assert p is not None
    terms = model.loss(batch)
    kl = kl_divergence(q, p).sum(1).mean()
    torch.testing.assert_close(terms["loss"], terms["l1"] + 16 * 100 + kl)


@pytest.mark.parametrize("prior", ["learned", "standard"])
@pytest.mark.parametrize("spec", [PAIRS, PAINTINGS, ImageSpec(3, S)])
def test_every_weight_learns_from_every_kind_of_data(spec: Spec, prior: str) -> None:
    model = build(spec, prior=prior)
    model.loss(batch_of(spec))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_answers_differ_by_z_and_not_at_temperature_zero() -> None:
    model, image = build(), pictures(1, S, S)
    two = translated(model, image, Options(), 2)
    assert (two[0] - two[1]).abs().max() > 1e-3
    two = translated(model, image, Options(temperature=0.0), 2)
    assert torch.equal(two[0], two[1])


def test_an_answer_follows_from_seed_and_number() -> None:
    model, image = build(), pictures(1, S, S)
    three = translated(model, image, Options(), 3)
    torch.testing.assert_close(translated(model, image, Options(), 1, 2), three[2:])


@pytest.mark.parametrize("size", [(3, 50), (33, 70)])
@pytest.mark.parametrize("spec", [PAIRS, PAINTINGS])
def test_every_size_is_translated(spec: Spec, size: tuple[int, int]) -> None:
    channels = 1 if spec is PAIRS else 3
    made = translated(build(spec), pictures(channels, *size), Options(tile=48, overlap=4), 2)
    assert made.shape == (2, 3, *size)
    assert made.isfinite().all()


def test_a_reference_says_what_z_is() -> None:
    model, image = build(PAINTINGS), pictures(3, S, S)
    model.posterior.head.weight.data.mul_(30)
    options = Options(temperature=0.0)
    one, other = (
        translated(model, image, options, 1, 0, reference)
        for reference in (pictures(3, 40, 50, seed=3).clamp(min=0.5), pictures(3, 20, 20, seed=4))
    )
    assert (one - other).abs().max() > 1e-3
    assert model.reference_count == (0, 1)
    assert build().reference_count == (0, 0)


@pytest.mark.parametrize("how", ["gray", "blur", "edges"])
def test_sources_do_not_tell_brightness_contrast_and_color(how: Reduction) -> None:
    image = pictures(2, 1, 24, 17).expand(-1, 3, -1, -1) / 2
    found = reduced(image, how, 4)
    assert found.shape == (2, 1, 24, 17)
    assert found.abs().max() <= 1
    torch.testing.assert_close(reduced(image * 0.8 + 0.1, how, 4), found, atol=0.01, rtol=0.01)
    assert reduced(torch.zeros(1, 3, 5, 1), how, 4).isfinite().all()


def test_blur_leaves_nothing_smaller_than_its_factor() -> None:
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    checks = ((x + y) % 2 * 2.0 - 1).view(1, 1, 32, 32)
    slope = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    found = reduced(slope / 2 + checks / 2, "blur", 4)
    torch.testing.assert_close(found, reduced(slope / 2, "blur", 4), atol=0.15, rtol=0)


def test_a_network_of_features_adds_a_term_and_a_measure() -> None:
    model = build(features="random:cnn", feature_weight=2.0)
    model.features = random_features("cnn")
    terms = model.loss(batch_of(PAIRS))
    assert terms["feature"] > 0
    with torch.no_grad():
        measured = model.measure(batch_of(PAIRS), Options())
    assert set(measured) == set(model.measures) == {*model.metrics, "perceptual"}


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(InputError, match="num_downs=5 needs a multiple of 32"):
        Model(Config(), PairSpec(3, 3, 48))
    with pytest.raises(InputError, match=r"model.features names no network"):
        Model(Config(feature_weight=1.0), PAIRS)


def test_a_silent_z_is_named() -> None:
    assert build().health({"kl": 0.001}) == ["z is not used"]
    assert build().health({"kl": 5.0}) == []
