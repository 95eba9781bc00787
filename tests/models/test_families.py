"""What holds for every family, shipped or found through AIGC_PATH; a new one is tested at once."""

from __future__ import annotations

import atexit
import json
import os
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch.utils.data import default_collate

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
os.environ["AIGC_PATH"] = str(PLUGIN)  # before the names are listed

from aigc_cli.data._stream import key_at  # noqa: E402
from aigc_cli.modalities import find_modality  # noqa: E402
from aigc_cli.modalities._modality import Input, Task  # noqa: E402
from aigc_cli.models._base import Batch, GenerativeModule, Run  # noqa: E402
from aigc_cli.models._text import TextModule  # noqa: E402
from aigc_cli.recipe.example import example_kind  # noqa: E402
from aigc_cli.recipe.header import facts  # noqa: E402
from aigc_cli.recipe.load import load_recipe  # noqa: E402
from aigc_cli.recipe.sections import Section, Trainer  # noqa: E402
from aigc_cli.registry import RECIPES as RECIPE_FILES  # noqa: E402
from aigc_cli.registry import families, load_data_kind, load_family, recipes  # noqa: E402
from aigc_cli.run.build import attach_networks  # noqa: E402
from aigc_cli.sampling.noise import SampleNoise  # noqa: E402
from aigc_cli.specs import spec_from_dict  # noqa: E402
from aigc_cli.specs.image import AnyImageSpec  # noqa: E402

FAMILIES, RECIPES = sorted(families()), sorted(recipes())
TRAINED = [name for name in FAMILIES if not load_family(name).Model.training_free]
KINDS = sorted(kind for kind in map(example_kind, map(load_family, TRAINED)) if kind)
FOLDER = Path(mkdtemp(prefix="aigc-examples-"))
atexit.register(rmtree, FOLDER, ignore_errors=True)


@cache
def data_of(kind: str) -> Any:
    """The example of a kind of data, opened."""
    module = load_data_kind(kind)
    config = module.example(FOLDER / kind)
    adapter = TypeAdapter(module.Config)
    return module.Data(adapter.validate_json(json.dumps(config)), seed=0, bases=())


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_PATH", str(PLUGIN))


@pytest.fixture(params=TRAINED)
def family(request: pytest.FixtureRequest) -> ModuleType:
    return load_family(request.param)


def build(family: ModuleType, **changed: Any) -> GenerativeModule:
    torch.manual_seed(0)
    config = family.Config.tiny(**changed)
    kind = example_kind(family)
    spec = AnyImageSpec(channels=3) if kind is None else data_of(kind).spec
    model: GenerativeModule = family.Model(config, spec)
    if getattr(config, "features", "none") != "none":
        attach_networks(model, SimpleNamespace(model=config, bases=()))
    model.run = Run(Trainer(max_steps=1, global_batch=2), seed=0, max_steps=1)
    return model


def batch_for(model: GenerativeModule, seed: int = 1, count: int = 2) -> Batch:
    """Training items as a DataLoader collates them."""
    train = data_of(model.spec.kind).train
    keys = [key_at(seed, position, len(train)) for position in range(count)]
    batch: Batch = getattr(train, "collate", default_collate)(fetched(train, keys))
    return batch


def fetched(train: Any, keys: list[tuple[int, int]]) -> Any:
    """What a DataLoader hands to collate."""
    return train.__getitems__(keys) if hasattr(train, "__getitems__") else [train[k] for k in keys]


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
    means = model.summarize({name: float(value.double().mean()) for name, value in values.items()})
    assert set(means) >= set(model.metrics)


def test_what_works_on_something_has_an_example_of_it(family: ModuleType) -> None:
    """Previews, and `aigc sample` without an input, show what becomes of validation items."""
    model = build(family).eval()
    example = model.example(batch_for(model, count=1), family.Options.tiny())
    assert (example is None) == model.draws
    if example is None or model.makes == "labels":
        return
    modality = find_modality(model.takes)
    task = Task(model, SimpleNamespace(sample=family.Options.tiny()))
    one = Input("", modality.thing_of(example.given, task), example.given, "", example.references)
    ((made,),) = modality.make([one], [0], task, alone=True)
    assert made is not None


@pytest.mark.parametrize("beams", [1, 2])
def test_texts_depend_on_their_prompt_and_noise_alone(family: ModuleType, beams: int) -> None:
    """In whatever batch, and the same again."""
    model = build(family).eval()
    if not isinstance(model, TextModule):
        pytest.skip("makes something else")
    for weight in model.parameters():  # a fresh network finds many words exactly as likely
        weight.data += 0.1 * torch.randn_like(weight)
    options = family.Options(max_tokens=6, beams=beams)
    prompts = ["the cat", "a dog saw the mat", "on"]
    noise = [SampleNoise(5, 2 * number, 2) for number in range(3)]
    together = model.write(prompts, options, SampleNoise(5, 0, 6), count=2)
    alone = [model.write([p], options, n, count=2)[0] for p, n in zip(prompts, noise, strict=True)]
    for several, others in zip(together, alone, strict=True):
        assert [answer.text for answer in several] == [answer.text for answer in others]
        assert all(len(answer.ids) <= 6 for answer in several)
    if model.input_optional:
        assert len(model.write([""], options, SampleNoise(5, 0, 1))[0]) == 1


@pytest.mark.parametrize("size", [(32, 32), (37, 45)])
def test_translations_are_pictures_whatever_the_size(
    family: ModuleType, size: tuple[int, int]
) -> None:
    model = build(family).eval()
    if model.takes != "image" or model.makes != "image":
        pytest.skip("makes something else")
    C = model.spec.input_channels
    image = torch.rand(C, *size, generator=torch.Generator().manual_seed(2)) * 2 - 1
    references = [torch.flip(image, (1,))] * model.reference_count[0]

    def made(count: int) -> torch.Tensor:
        with torch.no_grad():
            return model.sample(SampleNoise(0, 0, count), family.Options(), image, references)

    one, two = made(1), made(2)
    assert one.shape[0] == 1
    assert two.shape[0] == 2
    assert one.shape[1] in (1, 3)
    assert one.isfinite().all()
    torch.testing.assert_close(one[0], two[0], rtol=1e-4, atol=1e-4)  # whatever the batch


def test_short_side_is_the_size_translated(family: ModuleType) -> None:
    if "short_side" not in family.Options.model_fields:
        pytest.skip("keeps the size of images")
    model = build(family).eval()
    C = model.spec.input_channels
    image = torch.rand(C, 100, 50, generator=torch.Generator().manual_seed(2)) * 2 - 1
    smaller = F.interpolate(image[None], size=(64, 32), mode="bicubic", antialias=True)[0]

    def made(image: torch.Tensor, **options: int) -> torch.Tensor:
        with torch.no_grad():
            return model.sample(SampleNoise(0, 0, 1), family.Options(**options), image)

    torch.testing.assert_close(made(image, short_side=32), made(smaller.clamp(-1, 1)))


def test_the_batch_does_not_change_samples(family: ModuleType) -> None:
    model = build(family).eval()
    if not model.turns_noise or not model.draws:
        pytest.skip("makes something else")
    with torch.no_grad():
        together = model.sample(SampleNoise(5, 0, 3), family.Options())
        alone = [model.sample(SampleNoise(5, i, 1), family.Options()) for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)


def test_baselines_have_the_names_of_the_measures(family: ModuleType) -> None:
    model = build(family).eval()
    with torch.no_grad():
        measured = model.measure(batch_for(model), family.Options())
        for values in model.baselines(batch_for(model)).values():
            assert set(values) <= set(measured)
    means = model.summarize(
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
    spec = build(family).spec
    assert spec_from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


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
    spec = data_of(recipe.kind).spec.as_dict()
    spec |= {name: getattr(recipe.data, name) for name in spec if hasattr(recipe.data, name)}
    if "labels" in spec:
        count = 2 if "pneumoniamnist" in path.stem else 10
        spec["labels"] = None if spec["labels"] == "none" else [str(n) for n in range(count)]
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
