"""Settings had without torch are those of the whole file: schema, texts, defaults and checks."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from aigc_cli import registry
from aigc_cli.errors import RecipeError
from aigc_cli.recipe import outline
from aigc_cli.recipe.load import load_recipe

SHIPPED = [
    name for name, f in registry.families().items() if f.path.is_relative_to(registry.PACKAGE)
]
KINDS = [name for name, p in registry.data_kinds().items() if p.is_relative_to(registry.PACKAGE)]
RECIPES = [
    name for name, f in registry.recipes().items() if f.path.is_relative_to(registry.RECIPES)
]


@pytest.fixture(scope="module")
def outlined() -> dict[str, list[object]]:
    """What a process without torch says of every family and kind of data."""
    code = (
        "import json, sys\nfrom aigc_cli.recipe import outline\n"
        "family = lambda n: (f := outline.family(n)) and [f.Config.model_json_schema(), "
        "f.Options.model_json_schema(), f.training_free]\n"
        "kind = lambda n: [outline.data_config(n).model_json_schema()]\n"
        "names, kinds = json.loads(sys.argv[1])\n"
        "print(json.dumps({n: family(n) for n in names} | {f'data {n}': kind(n) for n in kinds}))\n"
        "heavy = {'torch', 'numpy', 'PIL'} & set(sys.modules)\nsys.exit(str(heavy) if heavy else 0)"
    )
    argv = [sys.executable, "-c", code, json.dumps([SHIPPED, KINDS])]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", SHIPPED)
def test_settings_of_a_family_are_those_of_the_whole_file(name: str, outlined) -> None:
    whole = registry.load_family(name)
    schemas = [whole.Config.model_json_schema(), whole.Options.model_json_schema()]
    assert outlined[name] == json.loads(json.dumps([*schemas, whole.Model.training_free]))


@pytest.mark.parametrize("name", KINDS)
def test_settings_of_data_are_those_of_the_whole_file(name: str, outlined) -> None:
    whole = registry.load_data_kind(name)
    assert outlined[f"data {name}"] == [json.loads(json.dumps(whole.Config.model_json_schema()))]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_means_the_same_without_torch(name: str) -> None:
    light = load_recipe(name, whole=False)
    assert light.digest == load_recipe(name).digest
    assert type(light.model).__module__.startswith("aigc_outline.")


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("edsr_small_x2", "sample.tile=20"),  # a validator that calls a sampler's function
        ("edsr_small_x2", "trainer.max_epochs=1"),
        ("pix2pix_256", "sample.size=7"),
        ("lm_shakespeare", "data.tokenizer={kind: nothing}"),
        ("lm_shakespeare", "model.num_heads=7"),
        ("cyclegan_256", "data.load_size=1"),
    ],
)
def test_mistakes_are_the_same_without_torch(name: str, override: str) -> None:
    def problems(whole: bool) -> list[str]:
        try:
            load_recipe(name, [override], whole=whole)
        except RecipeError as error:
            return list(map(str, error.problems))
        return []

    assert problems(whole=False) == problems(whole=True)


def test_settings_that_need_torch_come_from_the_whole_file(monkeypatch) -> None:
    def too_heavy(*args: object) -> None:
        raise outline.TooHeavy("torch")

    monkeypatch.setattr(outline, "_outline", too_heavy)
    assert outline.family("edsr").Config is registry.load_family("edsr").Config
    assert outline.data_config("images") is registry.load_data_kind("images").Config
