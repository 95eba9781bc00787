"""The sentence VAE: bound and likelihood by brute force, annealing, collapse, interpolation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from aigc_cli.errors import InputError
from aigc_cli.modalities._modality import Task
from aigc_cli.modalities.text import Modality, Prompts
from aigc_cli.models._base import Run, _Noise
from aigc_cli.models.text.text_vae import Config, Model, Options, mutual_information
from aigc_cli.nn.divergence import kl_to_standard_normal
from aigc_cli.recipe.load import recipe_from_dict
from aigc_cli.recipe.sections import Trainer
from aigc_cli.sampling.noise import SampleNoise
from aigc_cli.specs.text import IGNORE, TextSpec
from aigc_cli.text.tokenizer import Tokenizer

TEXTS = ["a dog runs", "two red cats sleep today", "a man"]
SPEC = TextSpec(Tokenizer.train(TEXTS, kind="words").to_json(), 8)


def model(**config: Any) -> Model:
    torch.manual_seed(0)
    built = Model(Config(**{"dim": 6, "hidden_dim": 8, "latent_dim": 2, **config}), SPEC).eval()
    for weight in built.network.parameters():
        weight.data.mul_(2.0)  # large enough for texts to differ
    built.run = Run(Trainer(max_steps=1, global_batch=3), seed=0, max_steps=1)
    return built


def batch(built: Model, texts: list[str] = TEXTS) -> dict[str, Tensor]:
    rows = [[*ids, 2] for ids in built.tokenizer.encode_batch(texts)]
    width = max(map(len, rows))
    target = torch.tensor([row + [IGNORE] * (width - len(row)) for row in rows])
    tokens = torch.tensor([([1, *row[:-1]] + [0] * width)[:width] for row in rows])
    return {"tokens": tokens, "target": target}


def terms(built: Model, seed: int = 0) -> dict[str, Tensor]:
    assert built.run is not None
    built._noise = _Noise(seed, built.run, torch.device("cpu"))
    return built.loss(built.expand(batch(built)))


@torch.no_grad()
def test_importance_sampling_finds_the_likelihood_that_integration_finds() -> None:
    built = model()
    torch.nn.init.zeros_(built.network.code.weight)  # near the prior: weights without heavy tails
    built.network.start.weight.data.mul_(0.3)
    built.network.code.bias.data.copy_(torch.tensor([0.2, -0.2, 0.3, 0.3]))
    data = batch(built)
    side = torch.linspace(-6, 6, 61)
    grid = torch.cartesian_prod(side, side)  # (G, 2)
    log_prior = Normal(0.0, 1.0).log_prob(grid).sum(1) + 2 * math.log(float(side[1] - side[0]))
    exact = []
    for row in range(3):
        tokens, target = (x[row : row + 1].expand(len(grid), -1) for x in data.values())
        exact.append((log_prior - built.nats(tokens, target, grid)).logsumexp(0))
    nll = built.nll(data, 4000, SampleNoise(0, 0, 3))
    torch.testing.assert_close(nll.float(), -torch.stack(exact), atol=0.03, rtol=0)
    one = torch.stack([built.nll(data, 1, SampleNoise(n, 0, 3)) for n in range(50)])
    assert one.mean() > nll.mean()  # a looser bound


@torch.no_grad()
def test_nats_are_those_of_the_decoder_step_by_step() -> None:
    built = model()
    data = batch(built)
    z = built.codes(TEXTS)
    decoder, total = built.read(TEXTS), torch.zeros(3)
    for t, chosen in enumerate(data["target"].T):
        log_p = decoder.step(data["tokens"][:, t] if t else None).log_softmax(-1)
        learned = chosen != IGNORE
        total -= log_p.gather(1, chosen.clamp(min=0)[:, None])[:, 0] * learned
    torch.testing.assert_close(built.nats(data["tokens"], data["target"], z), total)


def test_the_loss_is_the_bound_over_tokens() -> None:
    built = model(kl_schedule="constant", beta=0.5)
    tokens = built.weight(batch(built))
    assert tokens == 4 + 6 + 3
    built.mean_weight = tokens.float()
    made = terms(built)
    expected = (made["reconstruction"] + 0.5 * made["kl"]) * 3 / tokens
    torch.testing.assert_close(made["loss"], expected)


def test_kl_divergence_is_that_of_torch() -> None:
    mu, logvar = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mu, logvar), expected)


def test_free_bits_cost_the_same_whatever_is_below_them() -> None:
    built = model(kl_schedule="constant", free_bits=50.0)
    built.mean_weight = built.weight(batch(built)).float()
    made = terms(built)
    expected = (made["reconstruction"] + 2 * 50.0) * 3 / built.mean_weight
    torch.testing.assert_close(made["loss"], expected)


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [
        ("constant", {0: 1.0, 99: 1.0}),
        ("linear", {0: 0.01, 49: 0.5, 99: 1.0, 500: 1.0}),
        ("cyclical", {0: 0.0, 25: 0.5, 50: 1.0, 99: 1.0, 100: 0.0, 125: 0.5}),
        ("logistic", {0: 1 / (1 + math.exp(6.25)), 100: 0.5, 1000: 1.0}),
    ],
)
def test_the_weight_of_the_kl_divergence_rises(schedule: str, weights: dict[int, float]) -> None:
    config = Config.model_validate({"kl_schedule": schedule, "kl_steps": 100, "beta": 2.0})
    for step, weight in weights.items():
        assert config.kl_weight(step) == pytest.approx(2 * weight, abs=1e-9)
    assert Config().kl_weight(1000) == pytest.approx(1 / (1 + math.exp(-0.0025 * (1000 - 2500))))


def test_dropped_words_are_unknown_and_the_first_is_kept() -> None:
    built = model(word_dropout=1.0)
    seen: list[Tensor] = []
    built.network.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    terms(built)
    unknown = built.network.embedding.weight[3]
    bos = built.network.embedding.weight[1]
    torch.testing.assert_close(seen[0][:, 1:], unknown.expand(3, seen[0].shape[1] - 1, -1))
    torch.testing.assert_close(seen[0][:, 0], bos.expand(3, -1))


def test_mutual_information_is_all_or_nothing() -> None:
    """Posteriors that are the same say nothing of their texts; those far apart say which it is."""
    noise = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    same = torch.zeros(64, 3)
    assert mutual_information(noise, same, same).abs().max() < 1e-5
    mu = torch.arange(64.0)[:, None].expand(64, 3) * 100
    apart = mutual_information(mu + noise, mu, same)
    torch.testing.assert_close(apart.mean(), torch.tensor(math.log(64)))


@torch.no_grad()
def test_a_dead_code_is_reported() -> None:
    built = model()
    nn_code = built.network.code
    torch.nn.init.zeros_(nn_code.weight)
    torch.nn.init.zeros_(nn_code.bias)
    values = built.evaluate_batch(batch(built))
    means = built.summarize({k: float(v.double().mean()) for k, v in values.items()})
    assert means["kl"] == pytest.approx(0, abs=1e-6)
    assert means["active_units"] == 0
    assert means["mutual_information"] == pytest.approx(0, abs=1e-5)
    assert means["reconstruction"] == pytest.approx(float(values["nats"].mean()), abs=1e-5)
    assert built.health({"kl": 0.1, "kl_weight": 1.0}) == ["posterior collapse"]
    assert built.health({"kl": 0.1, "kl_weight": 0.1}) == []  # the weight still rises
    assert built.health({"kl": 4.0, "kl_weight": 1.0}) == []
    alive = model()
    values = alive.evaluate_batch(batch(alive))
    alive_means = alive.summarize({k: float(v.double().mean()) for k, v in values.items()})
    spread = alive.codes(TEXTS).var(0, correction=0)
    assert alive_means["active_units"] == (spread > 0.01).sum()


def test_it_learns_to_reconstruct_and_to_go_from_one_text_to_another() -> None:
    torch.manual_seed(0)
    built = Model(Config(dim=16, hidden_dim=32, latent_dim=4, dropout=0.0, beta=0.01), SPEC)
    built.run = model().run
    built.mean_weight = torch.tensor(13.0)
    optimizer = torch.optim.Adam(built.parameters(), 1e-2)
    for step in range(80):
        built.step = 10_000
        optimizer.zero_grad()
        terms(built, seed=step)["loss"].backward()
        optimizer.step()
    built.eval()
    none = SampleNoise(0, 0, 3)
    made = built.write(TEXTS, Options(), none)
    assert [answer[0].text for answer in made] == TEXTS
    way = built.between(TEXTS[:2], 5, Options(), none)
    assert [way[0].text, way[-1].text] == TEXTS[:2]
    assert len(way) == 5
    assert len(built.between(TEXTS, 5, Options(), none)) == 9
    assert len(built.between(None, 4, Options(), SampleNoise(0, 0, 2))) == 4


@torch.no_grad()
def test_samples_are_those_of_their_noise() -> None:
    built = model()
    together = built.write(["", "a dog runs"], Options(), SampleNoise(0, 0, 6), count=3)
    alone = built.write([""], Options(), SampleNoise(0, 1, 1))
    assert together[0][1] == alone[0][0]
    assert len({answer.ids for answer in together[1]}) == 1  # the likeliest code, not a drawn one
    assert len({answer.ids for answer in together[0]}) > 1


@torch.no_grad()
def test_the_command_writes_texts_of_codes_that_are_drawn() -> None:
    built = model()
    data = {"train": "a.txt", "kind": "text", "packing": "separate"}
    recipe = recipe_from_dict(
        {"family": "text_vae", "data": data, "trainer": {"max_steps": 1}, "sample": {}}
    )
    task = Task(built, recipe, count=3)
    made = [
        a
        for _, _, several in Modality().answers(task, Prompts(["a dog runs", "a"]), 16)
        for a in several
    ]
    noise = SampleNoise.joined([SampleNoise(0, number << 20, 3) for number in range(2)])
    expected = built.write(["a dog runs", "a"], Options(), noise, count=3)
    assert made == [*expected[0], *expected[1]]
    drawn = [a for _, _, several in Modality().answers(task, Prompts([""]), 16) for a in several]
    assert len({answer.ids for answer in drawn}) > 1


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(InputError, match="a text of 9 tokens is longer than the model reads, 7"):
        model().read(["a dog runs " * 3])
    with pytest.raises(InputError, match="two or more"):
        model().between(["a dog"], 4, Options(), SampleNoise(0, 0, 1))
    bare = Tokenizer.train(["abc"], kind="characters", specials=()).to_json()
    with pytest.raises(InputError, match="tokens for padding"):
        Model(Config(), TextSpec(bare, 8))
