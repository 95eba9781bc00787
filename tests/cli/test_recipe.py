"""`aigc recipe`, command by command, as text and as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aigc_cli import registry
from aigc_cli.cli.recipe import COLUMNS, SHORT
from aigc_cli.recipe.load import load_recipe
from aigc_cli.recipe.schema import recipe_schema

BLOB = """\
# yaml-language-server: $schema=../schema.json
# Small blobs for tests.
# makes: blobs
# minutes: 1 (2 CPU cores)
family: blob
seed: 0

data:
  kind: blobs
  path: blobs

model:
  lr: 1e-4  # a number, not text

trainer:
  max_steps: 100
"""


@pytest.fixture
def bad() -> str:
    """A recipe with two mistakes in the working folder."""
    text = BLOB.replace("lr: 1e-4", "lr: fast").replace("max_steps", "max_stps")
    Path("bad.yaml").write_text(text)
    return "bad.yaml"


def test_ls_shows_the_numbers_of_every_recipe(aigc) -> None:
    lines = aigc("recipe", "ls").stdout.splitlines()
    assert tuple(lines[0].split()) == SHORT
    assert len(lines) == 1 + len(registry.recipes())
    assert [cell.strip() for cell in lines[-1].split("  ") if cell] == [
        "toy/blob_small",
        "blobs",
        "-",
        "1",
    ]


def test_ls_full_shows_the_header_of_every_recipe(aigc) -> None:
    lines = aigc("recipe", "ls", "--full").stdout.splitlines()
    assert tuple(lines[0].split()) == COLUMNS
    assert len(lines) == 1 + len(registry.recipes())
    columns = [cell.strip() for cell in lines[-1].split("  ") if cell]
    assert columns[:7] == ["toy/blob_small", "blobs", "-", "-", "blob", "blobs", "-"]
    assert columns[7:] == ["1 (2 CPU cores)", "-"]


def test_ls_as_json(aigc, plugin: Path) -> None:
    ended = aigc("recipe", "ls", "toy", "--json")
    assert ended.code == 0
    assert ended.json == {
        "ok": True,
        "recipes": [
            {
                "recipe": "toy/blob_small",
                "family": "blob",
                "data": "blobs",
                "makes": "blobs",
                "from": None,
                "get": None,
                "parameters": None,
                "minutes": "1 (2 CPU cores)",
                "score": None,
                "path": str(plugin / "recipes/toy/blob_small.yaml"),
            }
        ],
    }


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["family=blob"], True),
        (["family=BLOB", "cpu"], True),
        (["minutes=2 cpu"], True),
        (["family=edsr"], False),
        (["blobs", "photographs"], False),
    ],
)
def test_ls_filters(aigc, filters: list[str], found: bool) -> None:
    assert ("toy/blob_small" in aigc("recipe", "ls", *filters).stdout) == found


def test_ls_refuses_an_unknown_column(aigc) -> None:
    ended = aigc("recipe", "ls", "famly=blob")
    assert (ended.code, ended.stderr) == (
        2,
        "error: there is no column 'famly' to filter by\nhint: did you mean 'family'?\n",
    )


def test_ls_names_the_nearest_family_or_kind(aigc) -> None:
    ended = aigc("recipe", "ls", "family=dcgn")
    assert (ended.code, ended.stderr) == (
        2,
        "error: no recipe has family=dcgn\nhint: did you mean 'dcgan'?\n",
    )
    ended = aigc("recipe", "ls", "data=imags")
    assert ended.stderr.endswith("hint: did you mean 'images'?\n")


def test_ls_lists_a_recipe_that_cannot_be_read(aigc, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "recipes" / "mine").mkdir(parents=True)
    (tmp_path / "recipes" / "mine" / "broken.yaml").write_bytes(b"family: [\xff")
    monkeypatch.setenv("AIGC_PATH", str(tmp_path))
    assert "mine/broken" in aigc("recipe", "ls").stdout


def test_show_prints_the_recipe_as_written(aigc) -> None:
    assert aigc("recipe", "show", "blob_small").stdout == BLOB


def test_show_full_is_a_recipe_that_means_the_same(aigc) -> None:
    Path("full.yaml").write_text(aigc("recipe", "show", "blob_small", "--full").stdout)
    assert load_recipe("full.yaml").digest == load_recipe("blob_small").digest
    assert "  betas: [0.9, 0.99]\n" in Path("full.yaml").read_text()


def test_show_with_overrides_shows_what_will_be_run(aigc) -> None:
    args = ("recipe", "show", "blob_small", "model.label=1e-4", "trainer.max_steps=7")
    text = aigc(*args).stdout
    assert '  label: "1e-4"\n' in text
    assert "  max_steps: 7\n" in text
    shown = aigc(*args, "--json").json
    assert shown["recipe"]["trainer"]["max_steps"] == 7
    assert shown["digest"] == load_recipe("blob_small", args[3:]).digest


def test_show_doc_explains_every_key(aigc) -> None:
    text = aigc("recipe", "show", "blob_small", "--doc").stdout
    entry = "model.lr = 0.0002  (a number, 0 < lr <= 1)\n    Learning rate of Adam.\n"
    assert entry in text
    keys = {
        row["key"]: row
        for row in aigc("recipe", "show", "blob_small", "--doc", "--json").json["keys"]
    }
    assert keys["data.path"]["default"] is None
    assert keys["trainer.schedule.name"]["default"] == '"constant"'
    assert all(row["doc"] for row in keys.values())


def test_show_doc_works_for_a_recipe_with_mistakes(aigc, bad: str) -> None:
    assert "model.lr = 0.0002" in aigc("recipe", "show", bad, "--doc").stdout
    ended = aigc("recipe", "show", bad, "--doc", "family=blb")
    assert ended.stderr == (
        "error: command line: family: unknown family 'blb', did you mean 'blob'?\n"
    )


def test_cp_copies_and_never_replaces(aigc) -> None:
    ended = aigc("recipe", "cp", "blob_small", "mine.yaml")
    assert (ended.code, ended.stdout) == (0, "mine.yaml\n")
    schema, rest = Path("mine.yaml").read_text().split("\n", 1)
    assert schema == f"# yaml-language-server: $schema={registry.RECIPES}/schema.json"
    assert rest == BLOB.split("\n", 1)[1]
    before = Path("mine.yaml").read_bytes()
    ended = aigc("recipe", "cp", "blob_small", "mine.yaml")
    assert (ended.code, ended.stdout, ended.stderr) == (
        2,
        "",
        "error: mine.yaml exists already\nhint: choose another name, or remove it first\n",
    )
    assert Path("mine.yaml").read_bytes() == before


def test_cp_into_a_folder_keeps_the_name(aigc) -> None:
    Path("my recipes 配方").mkdir()
    ended = aigc("recipe", "cp", "toy/blob_small", "my recipes 配方", "--json")
    assert ended.json == {"ok": True, "path": "my recipes 配方/blob_small.yaml"}
    assert load_recipe("my recipes 配方/blob_small.yaml").digest == load_recipe("blob_small").digest


def test_cp_says_why_it_cannot_write(aigc) -> None:
    ended = aigc("recipe", "cp", "blob_small", "no/such/folder.yaml")
    assert (ended.code, ended.stderr) == (
        2,
        "error: cannot write no/such/folder.yaml: no such file or directory\n",
    )
    os.symlink("nowhere", "link.yaml")
    assert aigc("recipe", "cp", "blob_small", "link.yaml").code == 2
    assert not Path("nowhere").exists()


@pytest.fixture
def blobs() -> str:
    folder = Path("my blobs")
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.blob").touch()
    return str(folder)


def test_new_writes_a_recipe_that_fits_the_data(aigc, blobs: str) -> None:
    ended = aigc("recipe", "new", "--family", "blob", "--data", blobs, "-o", "mine.yaml")
    said = "train with: aigc train mine.yaml\n"
    assert (ended.code, ended.stdout, ended.stderr) == (0, "mine.yaml\n", said)
    text = Path("mine.yaml").read_text()
    assert text.split("\n", 1)[1].startswith(
        "# aigc train mine.yaml\nfamily: blob\nseed: 0\n\ndata:\n  kind: blobs\n"
        "  path: my blobs\n  # There are 3 blobs.\n  size: 3\n\nmodel:\n"
        "  # Channels of every layer.\n  width: 8\n"
    )
    assert load_recipe("mine.yaml").data.size == 3
    assert aigc("recipe", "check", "mine.yaml").code == 0


def test_new_keeps_overrides_and_prints_without_a_file(aigc, blobs: str) -> None:
    args = ("recipe", "new", "--family", "blob", "--data", blobs)
    values = ("data.size=9", "model.lr=0.5", "trainer.schedule={name: cosine, warmup: 5}")
    text = aigc(*args, *values).stdout
    assert aigc(*args, *values, "--json").json == {"ok": True, "text": text}
    assert "max_epochs: 2" in aigc(*args, "trainer.max_epochs=2").stdout
    Path("r.yaml").write_text(text)
    loaded = load_recipe("r.yaml")
    assert (loaded.data.size, loaded.model.lr, loaded.trainer.schedule.warmup) == (9, 0.5, 5)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--family", "blb", "--data", "x"], "unknown family 'blb'\nhint: did you mean 'blob'?"),
        (["--family", "blob", "--data", "x"], "data.path: no blobs in 'x'"),
        (
            ["--family", "blob", "--data", "x", "--kind", "blbs"],
            "'blbs' is no data for family 'blob'\nhint: choose with --kind from: blobs",
        ),
        (
            ["--family", "blob", "--data", "x", "model.lr=2"],
            "command line: model.lr: 2 is out of range (default 0.0002, 0 < lr <= 1)",
        ),
        (["--family", "blob"], "missing option '--data'\nhint: aigc recipe new --help"),
    ],
)
def test_new_names_what_is_wrong(aigc, args: list[str], message: str) -> None:
    ended = aigc("recipe", "new", *args, "-o", "mine.yaml")
    assert (ended.code, ended.stdout, ended.stderr) == (2, "", f"error: {message}\n")
    assert not Path("mine.yaml").exists()


def test_new_never_replaces_a_file(aigc, blobs: str) -> None:
    Path("mine.yaml").write_text("mine")
    ended = aigc("recipe", "new", "--family", "blob", "--data", blobs, "-o", "mine.yaml")
    assert ended.stderr.startswith("error: mine.yaml exists already\n")
    assert Path("mine.yaml").read_text() == "mine"


def test_check_reports_every_mistake_of_every_recipe(aigc, bad: str) -> None:
    ended = aigc("recipe", "check", "blob_small", bad, "nothing", "model.width=0")
    assert ended.code == 2
    assert ended.stdout == ""
    first, *problems = ended.stderr.splitlines()
    assert first == "error: 4 problems"
    assert problems == [
        "  command line: model.width: 0 is out of range (default 8, 0 < width <= 64)",
        '  bad.yaml:13: model.lr: expected a number, got "fast" (default 0.0002, 0 < lr <= 1)',
        "  bad.yaml:16: trainer.max_stps: unknown key, did you mean 'max_steps'?",
        problems[-1],
    ]
    assert problems[-1].startswith("  there is no recipe 'nothing': neither a file nor the name")


def test_check_as_json(aigc, bad: str) -> None:
    ended = aigc("recipe", "check", "blob_small", "--json")
    digest = load_recipe("blob_small").digest
    assert ended.json == {
        "ok": True,
        "recipes": [{"recipe": "blob_small", "ok": True, "digest": digest}],
    }
    found = aigc("recipe", "check", "blob_small", bad, "--json").json
    assert (found["ok"], found["exit"]) == (False, 2)
    assert [row["ok"] for row in found["recipes"]] == [True, False]
    assert found["errors"][1] == {
        "code": "recipe.unknown_key",
        "file": "bad.yaml",
        "line": 16,
        "key": "trainer.max_stps",
        "message": "unknown key",
        "hint": "did you mean 'max_steps'?",
    }


def test_check_says_ok_for_each_good_recipe(aigc, bad: str) -> None:
    assert aigc("recipe", "check", "blob_small", "toy/blob_small").stdout == (
        "ok  blob_small\nok  toy/blob_small\n"
    )
    ended = aigc("recipe", "check", "blob_small", bad)
    assert ended.stdout == "ok  blob_small\n"
    assert ended.stderr.startswith("error: 2 problems in this recipe\n  bad.yaml:13: model.lr: ")


def test_check_needs_a_recipe(aigc) -> None:
    ended = aigc("recipe", "check", "model.lr=1")
    assert (ended.code, ended.stderr) == (2, "error: name at least one recipe to check\n")


def test_diff_compares_values_not_text(aigc) -> None:
    aigc("recipe", "cp", "blob_small", "same.yaml")
    assert aigc("recipe", "diff", "blob_small", "same.yaml").stdout == "the recipes are equal\n"
    text = BLOB.replace("1e-4", "0.5").replace("max_steps: 100", "max_epochs: 3")
    Path("other.yaml").write_text(text)
    assert aigc("recipe", "diff", "blob_small", "other.yaml").stdout == (
        "key                 blob_small  other.yaml\n"
        "model.lr            0.0001      0.5\n"
        "trainer.max_steps   100         null\n"
        "trainer.max_epochs  null        3\n"
    )
    found = aigc("recipe", "diff", "blob_small", "other.yaml", "--json").json["differences"]
    assert found[0] == {"key": "model.lr", "a": 1e-4, "b": 0.5}


def test_schema_prints_and_writes_the_same(aigc) -> None:
    schema = recipe_schema()
    assert json.loads(aigc("recipe", "schema").stdout) == schema
    assert aigc("recipe", "schema", "--json").json == {"ok": True, "schema": schema}
    assert aigc("recipe", "schema", "-o", "schema.json").stdout == "schema.json\n"
    assert json.loads(Path("schema.json").read_text()) == schema


def test_a_yaml_bomb_is_one_sentence(aigc) -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*a, *a, *a]\n" for c in "bcdefghij")
    Path("bomb.yaml").write_text(bomb)
    assert aigc("recipe", "check", "bomb.yaml").stderr == (
        "error: bomb.yaml:1: anchors (&) and aliases (*) are not used in recipes\n"
    )
