"""Recipes, overrides and checkpoints become typed values, or all their mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aigc_cli.errors import InputError, RecipeError
from aigc_cli.recipe.load import load_recipe, recipe_from_dict

GOOD = """\
family: blob
seed: 0

data:
  kind: blobs
  path: blobs

model:
  lr: 1e-4

trainer:
  max_steps: 100
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    return path


def mistakes(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_a_recipe_is_typed_by_its_family_and_data(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    assert loaded.model.lr == 1e-4
    assert loaded.model.betas == (0.9, 0.99)
    assert loaded.data.size == 16
    assert loaded.sample.temperature == 1.0
    assert loaded.trainer.max_steps == 100
    assert loaded.evaluate.metrics == ()
    assert loaded.name == "r"


def test_as_dict_holds_every_default_and_loads_again(recipe: Path) -> None:
    loaded = load_recipe(recipe)
    data = loaded.as_dict()
    assert data["model"]["betas"] == [0.9, 0.99]
    assert data["trainer"]["schedule"]["name"] == "constant"
    again = recipe_from_dict(data, recipe)
    assert again == loaded
    assert again.name == "r"
    assert recipe_from_dict(data).name == "blob"


def test_the_digest_follows_the_values_not_the_text(recipe: Path) -> None:
    digest = load_recipe(recipe).digest
    recipe.write_text(GOOD.replace("1e-4", "0.00010  # same"))
    assert load_recipe(recipe).digest == digest
    assert load_recipe(recipe, ["model.lr=2e-4"]).digest != digest


def test_data_is_looked_for_here_and_then_beside_the_recipe(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    moved = recipe.rename(tmp_path / "sub" / "r.yaml")
    assert load_recipe("sub/r.yaml").bases == (tmp_path, moved.parent)
    assert recipe_from_dict(load_recipe(moved).as_dict()).bases == (tmp_path,)


def test_all_mistakes_are_reported_at_once(recipe: Path) -> None:
    recipe.write_text(
        "family: blob\nsead: 3\ndata:\n  kind: blobs\n  pth: x\n"
        "model:\n  lr: fast\n  betas: [0.9]\n  loss: ll1\ntrainer:\n  max_steps: -5\n"
    )
    assert mistakes(recipe, "model.width=100", "trainer.max_stps=3") == [
        "r.yaml:2: sead: unknown key, did you mean 'seed'?",
        "r.yaml:3: data.path: this key is required",
        "r.yaml:5: data.pth: unknown key, did you mean 'path'?",
        'r.yaml:7: model.lr: expected a number, got "fast" (default 0.0002, 0 < lr <= 1)',
        "r.yaml:8: model.betas: expected a list of 2 numbers, got [0.9] (default [0.9, 0.99])",
        "r.yaml:9: model.loss: expected 'l1' or 'l2', got \"ll1\" (default \"l1\"), "
        "did you mean 'l1'?",
        "r.yaml:11: trainer.max_steps: -5 is out of range (default null, max_steps > 0)",
        "command line: model.width: 100 is out of range (default 8, 0 < width <= 64)",
        "command line: trainer.max_stps: unknown key, did you mean 'max_steps'?",
    ]


def test_text_and_value_mistakes_are_reported_together(recipe: Path) -> None:
    recipe.write_text(GOOD + "  max_steps: 3\n  workers: many\n")
    assert mistakes(recipe) == [
        "r.yaml:13: trainer.max_steps: given twice, first in line 12",
        'r.yaml:14: trainer.workers: expected a whole number, got "many" (default 0, workers >= 0)',
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("width: 8.0", "expected a whole number, got 8.0 (default 8, 0 < width <= 64), write 8"),
        ("width: 1e1", "expected a whole number, got 10.0 (default 8, 0 < width <= 64), write 10"),
        ('width: "8"', 'expected a whole number, got "8" (default 8, 0 < width <= 64)'),
        ("width: true", "expected a whole number, got true (default 8, 0 < width <= 64)"),
        (
            "width: 010",
            'expected a whole number, got "010" (default 8, 0 < width <= 64), '
            "numbers have no leading zeros",
        ),
        ("width:", "expected a whole number, got null (default 8, 0 < width <= 64)"),
        ("width: [8]", "expected a whole number, got [8] (default 8, 0 < width <= 64)"),
        ("lr: .nan", "expected a number, got NaN (default 0.0002, 0 < lr <= 1)"),
        ("lr: 1e999", "expected a number, got Infinity (default 0.0002, 0 < lr <= 1)"),
        ("lr: true", "expected a number, got true (default 0.0002, 0 < lr <= 1)"),
        ("lr: 0", "0 is out of range (default 0.0002, 0 < lr <= 1)"),
        ("residual: no", 'expected true or false, got "no" (default true)'),
        ("residual: 1", "expected true or false, got 1 (default true)"),
        ("betas: 0.9", "expected a list of 2 numbers, got 0.9 (default [0.9, 0.99])"),
        (
            "betas: [1, 2, 3]",
            "expected a list of 2 numbers, got [1, 2, 3] (default [0.9, 0.99])",
        ),
        ("betas: [a, 1]", 'expected a list of 2 numbers, got ["a", 1] (default [0.9, 0.99])'),
        ("layers: 1.5", "expected a whole number or 'auto', got 1.5 (default \"auto\")"),
        ("layers: aut", "expected a whole number or 'auto', got \"aut\" (default \"auto\"), "
         "did you mean 'auto'?"),
        ("label: 3", "expected text or null, got 3 (default null)"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_what_was_expected(recipe: Path, line: str, message: str) -> None:
    recipe.write_text(GOOD.replace("  lr: 1e-4", f"  {line}"))
    key = line.partition(":")[0]
    assert mistakes(recipe) == [f"r.yaml:9: model.{key}: {message}"]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("- a\n", ['r.yaml: a recipe is keys with values, such as family: edsr, not ["a"]']),
        ("5\n", ["r.yaml: a recipe is keys with values, such as family: edsr, not 5"]),
        (
            "family: blob\n",
            ["r.yaml: data: this key is required", "r.yaml: trainer: this key is required"],
        ),
        (
            GOOD.replace("family: blob\n", ""),
            ["r.yaml: family: this key is required"],
        ),
        (
            GOOD.replace("blob\n", "blb\n", 1),
            ["r.yaml:1: family: unknown family 'blb', did you mean 'blob'?"],
        ),
        (
            GOOD.replace("  kind: blobs\n", ""),
            ["r.yaml:4: data.kind: this key is required, choose from: "],
        ),
        (
            GOOD.replace("kind: blobs", "kind: blbs"),
            ["r.yaml:5: data.kind: unknown data kind 'blbs', did you mean 'blobs'?"],
        ),
        (GOOD.replace("family: blob", "family: 3"), ["r.yaml:1: family: expected text, got 3"]),
        (
            GOOD.replace("  lr: 1e-4\n", ""),
            ["r.yaml:8: model: expected keys with values, got null, "
             "remove the key or write keys under it"],
        ),
        (
            GOOD.replace("  max_steps: 100\n", "  global_batch: 4\n"),
            ["r.yaml:11: trainer: give exactly one of max_steps and max_epochs"],
        ),
        (GOOD.replace("seed: 0", "seed: -1"),
         ["r.yaml:2: seed: -1 is out of range (default 0, 0 <= seed < 4294967296)"]),
    ],
)  # fmt: skip
def test_a_wrong_structure_is_named(recipe: Path, text: str, problems: list[str]) -> None:
    recipe.write_text(text)
    found = mistakes(recipe)
    assert len(found) == len(problems)
    assert all(line.startswith(start) for line, start in zip(found, problems, strict=True))


def test_with_an_unknown_family_the_other_sections_are_still_checked(recipe: Path) -> None:
    recipe.write_text(GOOD.replace("blob\n", "xyz\n", 1).replace("max_steps: 100", "max_steps: x"))
    family, steps, size = mistakes(recipe, "data.size=big")
    assert family.startswith("r.yaml:1: family: unknown family 'xyz', choose from: ")
    assert steps.startswith("r.yaml:12: trainer.max_steps: expected a whole number or null")
    assert size.startswith("command line: data.size: expected a whole number")


def test_a_name_finds_a_recipe_of_the_plugin() -> None:
    for name in ("blob_small", "toy/blob_small", "blob_small.yaml", "toy/blob_small.yaml"):
        assert load_recipe(name).name == "blob_small"


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("blob_smal", "there is no recipe 'blob_smal': neither a file nor the name of a recipe",
         "did you mean 'blob_small'?"),
        ("toy/blob_smal.yaml", "there is no recipe 'toy/blob_smal.yaml': neither a file nor the "
         "name of a recipe", "did you mean 'toy/blob_small'?"),
    ],
)  # fmt: skip
def test_an_unknown_recipe_names_the_nearest(name: str, message: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(name)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize("name", ["", ".", "/", "a\0b", "x" * 5000, "../..", "\udcff"])
def test_odd_names_are_unknown_recipes(name: str) -> None:
    with pytest.raises(InputError, match="there is no recipe"):
        load_recipe(name)


@pytest.mark.parametrize("name", ["ein Rezept.yaml", "配方.yaml", "-r.yaml", "a'b\".yaml"])
def test_spaces_quotes_and_unicode_in_file_names(recipe: Path, name: str) -> None:
    recipe.rename(name)
    assert load_recipe(name).name == Path(name).stem
    Path(name).write_text("x: [")
    assert mistakes(name)[0].startswith(f"{name}:1: not valid YAML")


def test_unknown_keys_point_to_the_documentation(recipe: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml", ["model.x=1"])
    assert caught.value.hint == "aigc recipe show r.yaml --doc lists every key"
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml", ["model.lr=x"])
    assert caught.value.hint is None


OVERRIDES = [
    ("model.lr=1e-3", ("model", "lr"), 1e-3),
    ("model.lr=1", ("model", "lr"), 1.0),
    ("model.betas=[0.5,0.9]", ("model", "betas"), (0.5, 0.9)),
    ("model.betas=[0.5, 9e-1]", ("model", "betas"), (0.5, 0.9)),
    ("model.layers=auto", ("model", "layers"), "auto"),
    ("model.layers=4", ("model", "layers"), 4),
    ("model.loss=l2", ("model", "loss"), "l2"),
    ("model.residual=false", ("model", "residual"), False),
    ("trainer.clip_norm=null", ("trainer", "clip_norm"), None),
    ("trainer.clip_norm=1", ("trainer", "clip_norm"), 1.0),
    ("trainer.schedule.name=cosine", ("trainer", "schedule", "name"), "cosine"),
    ("trainer.schedule={name: step, every: 5}", ("trainer", "schedule", "every"), 5),
    ("sample.prompt=介绍一下你", ("sample", "prompt"), "介绍一下你"),
    ("sample.prompt=2023-09-16", ("sample", "prompt"), "2023-09-16"),
    ("sample.prompt=a,b#c", ("sample", "prompt"), "a,b#c"),
    ("sample.prompt= # 'x: [y", ("sample", "prompt"), " # 'x: [y"),
    ("sample.prompt=1e-4", ("sample", "prompt"), "1e-4"),
    ("sample.prompt=true", ("sample", "prompt"), "true"),
    ("sample.prompt=null", ("sample", "prompt"), "null"),
    ("sample.prompt=a=b", ("sample", "prompt"), "a=b"),
    ("sample.prompt=", ("sample", "prompt"), ""),
    ("sample.prompt=🎨\n", ("sample", "prompt"), "🎨\n"),
    ("model.label=null", ("model", "label"), None),
    ("model.label=no", ("model", "label"), "no"),
    ("model.label=010", ("model", "label"), "010"),
    ("data.path=a b/ü: c", ("data", "path"), "a b/ü: c"),
    ("data.path=[a b, c]", ("data", "path"), ("a b", "c")),
    ("data.tags=[1st, no]", ("data", "tags"), ("1st", "no")),
    ("evaluate.require=[psnr_y>=36.0]", ("evaluate", "require"), ("psnr_y>=36.0",)),
    ("init_from=runs/x/latest", ("init_from",), "runs/x/latest"),
    ("seed=7", ("seed",), 7),
]


@pytest.mark.parametrize(("text", "path", "value"), OVERRIDES, ids=[o[0] for o in OVERRIDES])
def test_an_override_is_typed_by_its_field(
    recipe: Path, text: str, path: tuple[str, ...], value: object
) -> None:
    found: object = load_recipe(recipe, [text])
    for part in path:
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--lr", "command line: overrides have no dashes: lr=VALUE"),
        ("--model.lr=1", "command line: overrides have no dashes: model.lr=1"),
        ("-model.lr=1", "command line: overrides have no dashes: model.lr=1"),
        ("model.lr", "command line: expected KEY=VALUE, got 'model.lr', as in model.lr=1e-4"),
        ("=3", "command line: expected KEY=VALUE, got '=3', as in model.lr=1e-4"),
        ("a..b=3", "command line: expected KEY=VALUE, got 'a..b=3', as in model.lr=1e-4"),
        ("model.betas=[1,", "command line: model.betas: not valid YAML: expected the node content, "
         "but found '<stream end>'"),
        ("model.betas=*x", "command line: model.betas: anchors (&) and aliases (*) are not used in "
         "recipes"),
        ("model.label=\udcff", "command line: model.label: the value is not UTF-8"),
        ("data.tags=x", 'command line: data.tags: expected a list of texts, got "x" (default []), '
         "as in [x]"),
        ("model=3", "command line: model: expected keys with values, got 3"),
        ("data.path=", "command line: data.path: expected text or a list of texts, got \"\" "
         "(not empty)"),
        ("model.loss.x=3", "command line: model.loss.x: unknown key, model.loss is 'l1' or 'l2'"),
        ("model.lr.x=3", "command line: model.lr.x: unknown key, model.lr is a number"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named(recipe: Path, override: str, message: str) -> None:
    assert mistakes(recipe, override)[0] == message


def test_family_and_data_kind_can_be_overridden(recipe: Path) -> None:
    recipe.write_text(GOOD.replace("blob\n", "nothing\n", 1).replace("kind: blobs", "kind: x"))
    assert load_recipe(recipe, ["family=blob", "data.kind=blobs"]).family == "blob"
    assert mistakes(recipe, "family=blb", "data.kind=blobs") == [
        "command line: family: unknown family 'blb', did you mean 'blob'?"
    ]


def test_the_last_override_of_a_key_wins(recipe: Path) -> None:
    assert load_recipe(recipe, ["model.width=3", "model.width=4"]).model.width == 4


def test_recipe_from_dict_leaves_its_argument_alone(recipe: Path) -> None:
    data = load_recipe(recipe).as_dict()
    recipe_from_dict(data, None, ["model.width=3"])
    assert data["model"]["width"] == 8


def test_a_foreign_dict_is_a_recipe_error() -> None:
    loop: dict[str, object] = {}
    loop["model"] = loop
    foreign = ({}, {"family": 3}, {"family": "blob", "data": [], "trainer": "x", "model": None})
    for data in (*foreign, {"seed": object()}, {"seed": b"x"}, loop, {"family": "\ud800"}, {1: 2}):
        with pytest.raises(RecipeError):
            recipe_from_dict(data)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["family", "seed", "data", "model", "trainer", "init_from", "sample"])
    | st.tuples(
        st.sampled_from(["data", "model", "trainer", "sample", "evaluate"]),
        st.sampled_from(
            ["kind", "path", "betas", "lr", "layers", "schedule", "devices", "metrics"]
        ),
    ),
    json_like,
)
def test_any_value_anywhere_loads_or_is_a_recipe_error(
    place: str | tuple[str, str], value: object
) -> None:
    data = load_recipe("blob_small").as_dict()
    if isinstance(place, str):
        data[place] = value
    else:
        data[place[0]][place[1]] = value
    try:
        recipe_from_dict(data)
    except RecipeError as error:
        assert error.problems  # noqa: PT017 - either ending is right


LINES = GOOD.splitlines(keepends=True)
SNIPPETS = [
    "&a ",
    "*a",
    "? ",
    "- ",
    ": ",
    "\t",
    "'",
    '"',
    "[",
    "]",
    "{",
    "}",
    "#",
    "|",
    ">",
    "!!x ",
]
SNIPPETS += [
    "---\n",
    "...\n",
    "\n",
    "  ",
    "0",
    "-",
    "\0",
    "é",
    "\ud7ff",
    "%YAML 1.1\n",
    ".nan",
    "<<: ",
]


@settings(max_examples=400, deadline=None)
@example([(36, 0, "'"), (96, 6, "'")])  # a kind of several lines
@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 6), st.sampled_from(SNIPPETS)),
        min_size=1,
        max_size=4,
    )
)
def test_any_mutation_loads_or_is_an_input_error(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, str]]
) -> None:
    text = GOOD
    for at, cut, snippet in edits:
        text = text[:at] + snippet + text[at + cut :]
    path = tmp_path_factory.getbasetemp() / "mutated.yaml"
    path.write_text(text)
    try:
        assert recipe_from_dict(load_recipe(path).as_dict()).family == "blob"
    except InputError as error:
        lines = str(error).splitlines()
        assert len(lines) == len(error.problems) > 0  # noqa: PT017 - either ending is right


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [o[0].partition("=")[0] for o in OVERRIDES] + ["model", "data", "trainer", "x.y"]
    ),
    st.text(max_size=20) | st.sampled_from(SNIPPETS) | st.text("0123456789.e-+[]{}, ", max_size=9),
)
def test_any_override_loads_or_is_a_recipe_error(key: str, value: str) -> None:
    try:
        load_recipe("blob_small", [f"{key}={value}"])
    except RecipeError as error:
        assert error.problems  # noqa: PT017 - either ending is right
