"""What holds for every family, shipped or found through AIGC_PATH; a new one is tested at once."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
os.environ["AIGC_PATH"] = str(PLUGIN)  # before the names are listed

from aigc_cli.models._base import Batch, GenerativeModule, Run  # noqa: E402
from aigc_cli.models._text import TextModule  # noqa: E402
from aigc_cli.recipe.header import facts  # noqa: E402
from aigc_cli.recipe.load import load_recipe  # noqa: E402
from aigc_cli.recipe.sections import Section, Trainer  # noqa: E402
from aigc_cli.registry import RECIPES as RECIPE_FILES  # noqa: E402
from aigc_cli.registry import families, load_family, recipes  # noqa: E402
from aigc_cli.run.build import attach_networks  # noqa: E402
from aigc_cli.run.sample import input_channels  # noqa: E402
from aigc_cli.sampling.noise import SampleNoise  # noqa: E402
from aigc_cli.specs import Spec, spec_from_dict  # noqa: E402
from aigc_cli.specs.image import ImageSpec, PairSpec, PictureSpec, SuperResolutionSpec, UnpairedSpec  # noqa: E402
from aigc_cli.specs.text import (  # noqa: E402
    IGNORE,
    ChatSpec,
    LabelledTextSpec,
    PreferenceSpec,
    PromptSpec,
    TextPairSpec,
    TextSpec,
)
from aigc_cli.text.tokenizer import SPECIALS, Tokenizer  # noqa: E402

FAMILIES, RECIPES = sorted(families()), sorted(recipes())
TRAINED = [name for name in FAMILIES if not load_family(name).Model.training_free]
WORDS = ["the cat sat on the mat .", "a dog saw the cat and sat down ."]
CHAT = (*SPECIALS, "<|system|>", "<|user|>", "<|assistant|>")
LETTERS = Tokenizer.train(WORDS, kind="characters", specials=CHAT).to_json()
VOCABULARY = Tokenizer.train(WORDS, kind="words").to_json()
CONTEXT = 24
SPECS: dict[type[Spec], Spec] = {
    ImageSpec: ImageSpec(channels=3, image_size=32, labels=("cat", "dog", "owl")),
    SuperResolutionSpec: SuperResolutionSpec(channels=3, scale=2),
    PairSpec: PairSpec(source_channels=1, target_channels=3, image_size=32),
    UnpairedSpec: UnpairedSpec(channels=3, image_size=32),
    PictureSpec: PictureSpec(channels=3),
    TextSpec: TextSpec(LETTERS, CONTEXT),
    ChatSpec: ChatSpec(LETTERS, CONTEXT, "turns"),
    PreferenceSpec: PreferenceSpec(LETTERS, CONTEXT, "turns"),
    PromptSpec: PromptSpec(LETTERS, CONTEXT, "turns"),
    TextPairSpec: TextPairSpec(VOCABULARY, VOCABULARY, 9, 8, copy=True, languages=("en", "en")),
    LabelledTextSpec: LabelledTextSpec(LETTERS, CONTEXT, ("cat", "dog", "owl"), (3, 2, 1)),
}
NETWORK = {"dim": 16, "num_layers": 2, "num_heads": 2}
SMALL = {
    "adain": {"features": "random:cnn", "widths": (32, 64, 128, 256)},
    "colorize": {"num_features": 4, "depth": 1},
    "colorize_gan": {"num_features": 4, "disc_features": 4, "disc_layers": 1},
    "classifier": {"widths": (4, 8), "depths": (1, 1)},
    "dcgan": {"num_features": 4, "latent_dim": 8},
    "cyclegan": {"num_features": 4, "num_blocks": 1, "discriminator_features": 4},
    "deepdream": {"features": "random:cnn"},
    "edsr": {"num_blocks": 2, "num_features": 4},
    "edsr_gan": {
        "num_blocks": 2,
        "num_features": 4,
        "features": "random:cnn",
        "feature_layer": "relu2_1",
        "feature_channels": 64,
        "disc_features": 4,
    },
    "pix2pix": {"num_features": 4},
    "cvae_translate": {"num_features": 4},
    "style_fast": {"num_features": 4, "num_blocks": 1, "features": "random:cnn"},
    "style_optim": {"features": "random:cnn"},
    "flow": {"num_features": 8, "multipliers": (1, 2), "num_blocks": 1, "attention": (4,)},
    "munit": {"num_features": 4, "num_blocks": 1, "mlp_dim": 8, "discriminator_features": 4},
    "vae": {"hidden_dims": (8,), "latent_dim": 4},
    "lm": NETWORK,
    "chat": NETWORK,
    "dpo": NETWORK,
    "grpo": {**NETWORK, "samples": 2, "max_tokens": 8},
    "seq2seq": {"dim": 8, "hidden_dim": 8, "dropout": 0.0},
    "summarize": {"dim": 8, "hidden_dim": 8, "coverage_after": 0.0},
    "text_classifier": {"dim": 8, "num_heads": 2, "dropout": 0.0},
    "text_vae": {
        "dim": 8,
        "hidden_dim": 8,
        "latent_dim": 3,
        "kl_schedule": "constant",
        "dropout": 0.0,
    },
}


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_PATH", str(PLUGIN))


@pytest.fixture(params=TRAINED)
def family(request: pytest.FixtureRequest) -> ModuleType:
    return load_family(request.param)


def build(family: ModuleType, **changed: Any) -> GenerativeModule:
    torch.manual_seed(0)
    small = SMALL.get(family.__name__.rsplit(".", 1)[-1], {})
    config = family.Config(**{**small, **changed})
    model: GenerativeModule = family.Model(config, SPECS[family.Model.accepts[0]])
    if getattr(config, "features", "none") != "none":
        attach_networks(model, SimpleNamespace(model=config, bases=()))
    model.run = Run(Trainer(max_steps=1, global_batch=2), seed=0, max_steps=1)
    return model


def batch_for(model: GenerativeModule, seed: int = 1) -> Batch:
    random = torch.Generator().manual_seed(seed)
    match model.spec:
        case ImageSpec(channels=C, image_size=S):
            image = torch.rand(2, C, S, S, generator=random) * 2 - 1
            return {"image": image, "label": torch.tensor([2, 0])}
        case PairSpec(source_channels=C, target_channels=D, image_size=S):
            return {
                "source": torch.rand(2, C, S, S, generator=random) * 2 - 1,
                "target": torch.rand(2, D, S, S, generator=random) * 2 - 1,
            }
        case UnpairedSpec(channels=C, image_size=S):
            return {
                "a": torch.rand(2, C, S, S, generator=random) * 2 - 1,
                "b": torch.rand(2, C, S, S, generator=random) * 2 - 1,
            }
        case SuperResolutionSpec(channels=C, scale=s):
            return {
                "low": torch.rand(2, C, 24, 24, generator=random) * 2 - 1,
                "high": torch.rand(2, C, 24 * s, 24 * s, generator=random) * 2 - 1,
            }
        case TextSpec() | ChatSpec():
            return supervised("", random)
        case PreferenceSpec():
            return supervised("chosen", random) | supervised("rejected", random)
        case PromptSpec():
            prompt = ids(random, 6)
            prompt[0, :3] = 0
            return {"prompt": prompt, "reference": ids(random, 5)}
        case TextPairSpec():
            source, target = ids(random, 9, VOCABULARY), ids(random, 8, VOCABULARY)
            target[:, 0] = 1  # bos
            for side, length in ((source, 6), (target, 5)):
                side[0, length - 1 :] = torch.tensor([2] + [0] * (side.shape[1] - length))
                side[1, -1] = 2  # eos
            copies = {"source_copy": source.clone(), "target_copy": target.clone()}
            V = Tokenizer.from_json(VOCABULARY).vocab_size
            source[1, 3] = target[1, 2] = 3  # <unk>, that can be copied
            copies["source_copy"][1, 3] = copies["target_copy"][1, 2] = V
            return {"source": source, "target": target, **copies}
        case LabelledTextSpec():
            tokens = ids(random, 8)
            tokens[0, 4:] = torch.tensor([2, 0, 0, 0])  # eos, then pad
            tokens[1, -1] = 2
            return {"tokens": tokens, "label": torch.tensor([2, 0])}
    raise AssertionError(f"no batch for {model.spec}")


def ids(random: torch.Generator, length: int, tokenizer: str = LETTERS) -> torch.Tensor:
    """Ordinary tokens (2, length)."""
    size = Tokenizer.from_json(tokenizer).vocab_size
    return torch.randint(len(CHAT), size, (2, length), generator=random)


def supervised(name: str, random: torch.Generator) -> Batch:
    """Two rows of which the second is shorter; the first tokens are not learned."""
    tokens = ids(random, 12)
    target = tokens.roll(-1, 1)
    target[:, :3] = target[:, 11:] = target[1, 7:] = IGNORE
    return {name or "tokens": tokens, f"{name}_target".lstrip("_"): target}


def losses(model: GenerativeModule) -> list[dict[str, torch.Tensor]]:
    from aigc_cli.models._base import _Noise

    assert model.run is not None
    made = []
    for number, phase in enumerate(model.phases()):
        model._noise = _Noise(number, model.run, torch.device("cpu"))
        made.append(phase.loss(model.expand(batch_for(model))))
    return made


def test_every_parameter_receives_a_gradient(family: ModuleType) -> None:
    model = build(family)
    for terms in losses(model):
        terms["loss"].backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_loss_is_a_pure_function_of_weights_batch_and_seed(family: ModuleType) -> None:
    first, second = losses(build(family)), losses(build(family))
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_each_phase_has_its_optimizer_and_each_weight_one(family: ModuleType) -> None:
    model = build(family)
    made = model.configure_optimizers()
    optimizers = made if isinstance(made, list) else [made]
    assert {phase.optimizer for phase in model.phases()} == set(range(len(optimizers)))
    owned = [id(p) for o in optimizers for group in o.param_groups for p in group["params"]]
    assert sorted(owned) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_validation_values_are_those_promised(family: ModuleType) -> None:
    model = build(family).eval()
    with torch.no_grad():
        values = model.evaluate_batch(batch_for(model))
    assert set(values) == set(model.counted or model.metrics)
    assert all(value.shape == (2,) for value in values.values())
    means = model.summarise({name: float(value.double().mean()) for name, value in values.items()})
    assert set(means) >= set(model.metrics)


def test_previews_are_pictures_or_texts(family: ModuleType) -> None:
    model = build(family).eval()
    with torch.no_grad():
        shown = model.preview(batch_for(model))
    assert shown or model.makes != "texts"
    for things in shown.values():
        if isinstance(things, torch.Tensor):
            assert things.ndim == 4
            assert things.shape[1] in (1, 3)
        else:
            assert all(isinstance(text, str) for text in things)
    assert len({len(things) for things in shown.values()}) <= 1


@pytest.mark.parametrize("beams", [1, 2])
def test_texts_depend_on_their_prompt_and_noise_alone(family: ModuleType, beams: int) -> None:
    """In whatever batch, and the same again."""
    model = build(family).eval()
    if not isinstance(model, TextModule):
        pytest.skip("makes something else")
    options = family.Options(max_tokens=6, beams=beams)
    prompts = ["the cat", "a dog saw the mat", "on"]
    noise = [SampleNoise(5, 2 * number, 2) for number in range(3)]
    together = model.write(prompts, options, SampleNoise(5, 0, 6), count=2)
    alone = [model.write([p], options, n, count=2)[0] for p, n in zip(prompts, noise, strict=True)]
    for several, others in zip(together, alone, strict=True):
        assert [answer.text for answer in several] == [answer.text for answer in others]
        assert all(len(answer.ids) <= 6 for answer in several)
    if model.from_nothing:
        assert len(model.write([""], options, SampleNoise(5, 0, 1))[0]) == 1


@pytest.mark.parametrize("size", [(32, 32), (37, 45)])
def test_translations_are_pictures_whatever_the_size(
    family: ModuleType, size: tuple[int, int]
) -> None:
    model = build(family).eval()
    if model.makes != "translations":
        pytest.skip("makes something else")
    C = input_channels(model.spec)
    image = torch.rand(C, *size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    references = [torch.flip(image, (1,))] * model.reference_count[0]

    def made(count: int) -> torch.Tensor:
        with torch.no_grad():
            return model.translate(image, family.Options(), SampleNoise(0, 0, count), references)

    one, two = made(1), made(2)
    assert one.shape[0] == 1
    assert two.shape[0] == 2
    assert one.shape[1] in (1, 3)
    assert one.isfinite().all()
    torch.testing.assert_close(one[0], two[0], rtol=1e-4, atol=1e-4)  # whatever the batch


def test_short_side_is_the_size_translated(family: ModuleType) -> None:
    if "short_side" not in family.Options.model_fields:
        pytest.skip("keeps the size of pictures")
    model = build(family).eval()
    C = input_channels(model.spec)
    image = torch.rand(C, 100, 50, generator=torch.Generator().manual_seed(2)) * 2 - 1
    smaller = F.interpolate(image[None], size=(64, 32), mode="bicubic", antialias=True)[0]

    def made(image: torch.Tensor, **options: int) -> torch.Tensor:
        with torch.no_grad():
            return model.translate(image, family.Options(**options), SampleNoise(0, 0, 1))

    torch.testing.assert_close(made(image, short_side=32), made(smaller.clamp(-1, 1)))


def test_the_batch_does_not_change_samples(family: ModuleType) -> None:
    model = build(family).eval()
    if model.makes != "samples":
        pytest.skip("makes something else")
    with torch.no_grad():
        together = model.sample(3, family.Options(), SampleNoise(5, 0, 3))
        alone = [model.sample(1, family.Options(), SampleNoise(5, i, 1)) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)


def test_baselines_have_the_names_of_the_measures(family: ModuleType) -> None:
    model = build(family).eval()
    with torch.no_grad():
        measured = model.measure(batch_for(model), family.Options())
        for values in model.baselines(batch_for(model)).values():
            assert set(values) <= set(measured)
    means = model.summarise(
        {name: float(value.double().mean()) for name, value in measured.items()}
    )
    assert set(means) >= set(model.measures or model.metrics)


def test_averaged_networks_exist(family: ModuleType) -> None:
    model = build(family)
    assert set(model.averaged) <= set(model.networks())


@pytest.mark.parametrize("name", FAMILIES)
def test_every_field_is_documented_and_has_a_default(name: str) -> None:
    family = load_family(name)
    for section in (family.Config, family.Options):
        assert issubclass(section, Section)
        section()
        for name, field in section.model_fields.items():
            assert field.description, f"{section.__module__}.{name} has no text under it"


def test_specs_go_around_as_plain_data(family: ModuleType) -> None:
    for kind in family.Model.accepts:
        assert spec_from_dict(SPECS[kind].as_dict()) == SPECS[kind]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_family(recipe.family).Config is type(recipe.model)


@pytest.mark.parametrize("path", sorted(RECIPE_FILES.glob("image/*.yaml")), ids=lambda p: p.stem)
def test_recipes_of_pictures_say_how_large_they_are(path: Path) -> None:
    recipe = load_recipe(path)
    family = load_family(recipe.family)
    if family.Model.training_free:
        pytest.skip("learns nothing")
    spec = next(s for s in SPECS.values() if s.kind == recipe.data.kind).as_dict()
    spec |= {name: getattr(recipe.data, name) for name in spec if hasattr(recipe.data, name)}
    if "labels" in spec:
        spec["labels"] = None if spec["labels"] == "none" else [str(digit) for digit in range(10)]
    weighs_itself = recipe.family == "cyclegan"  # keep_light_light
    with torch.device("cpu" if weighs_itself else "meta"):
        model = family.Model(recipe.model, spec_from_dict(spec))
    says = facts(path.read_text(encoding="utf-8"))["parameters"]
    assert says == f"{sum(p.numel() for p in model.parameters()):,}"


@pytest.mark.parametrize("parts", [1, 2, 4])
@pytest.mark.parametrize("world", [1, 2])
def test_noise_does_not_depend_on_how_the_batch_is_spread(parts: int, world: int) -> None:
    from aigc_cli.models._base import _Noise

    def drawn(parts: int, world: int) -> torch.Tensor:
        pieces = []
        for rank in range(world):
            trainer = Trainer(max_steps=1, global_batch=8, accumulate=parts)
            noise = _Noise(5, Run(trainer, 0, 1, rank, world), torch.device("cpu"))
            for part in range(parts):
                noise.start_part(part)
                noise.draw(torch.randn, 8 // parts // world, (3,))  # an earlier draw
                pieces.append(noise.draw(torch.randn, 8 // parts // world, (2,)))
        return torch.cat(pieces)

    assert torch.equal(drawn(parts, world), drawn(1, 1))
