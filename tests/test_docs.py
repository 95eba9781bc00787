"""The documentation is true: generated pages are fresh, links and paths exist, commands parse."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer

from aigc_cli.cli._app import app, two_words
from aigc_cli.metrics.find import belongs, resolve
from aigc_cli.modalities import find_modality
from aigc_cli.recipe.header import facts as header_facts
from aigc_cli.recipe.load import load_recipe
from aigc_cli.registry import metrics, modalities, recipes

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
GENERATED = [ROOT / "docs/cli.md", ROOT / "docs/keys.md"]

_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_ROOTS = r"(?:aigc_cli|recipes|docs|tests|benchmarks|\.ci)/|(?:Makefile|constraints\.txt)$"
_OWN = re.compile(_ROOTS)
_EXAMPLES = {
    "recipes/mine.yaml",
    "recipes/toy/tiny_gan.yaml",
    "recipes/tune/tune_vae.yaml",
}  # of a reader's own folder
_COMMAND = re.compile(r"(aigc|srun aigc|torchrun|\.venv/bin/aigc|-m aigc_cli) ")
_SHELL = {"|", "||", "&", "&&", ";", ">", "2>", "<"}


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def fresh() -> dict[Path, str]:
    made: dict[Path, str] = runpy.run_path(str(ROOT / "docs/make_cli.py"))["pages"]()
    return made


@pytest.mark.parametrize("path", GENERATED, ids=ids)
def test_generated_pages_are_fresh(path: Path, fresh: dict[Path, str]) -> None:
    assert path.read_text(encoding="utf-8") == fresh[path], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http:", "https:")):
            name, _, anchor = target.partition("#")
            file = (page.parent / name) if name else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_paths_of_the_project_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    words = [w for code in (*_CODE.findall(text), *_FENCE.findall(text)) for w in code.split()]
    for word in words:
        path = word.strip("\"'(),;:").removeprefix("./")
        if _OWN.match(path) and path not in _EXAMPLES and not re.search(r"[<>*$]", path):
            assert (ROOT / path.split(":")[0]).exists(), word


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_no_path_of_a_machine_is_named(page: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|root|tmp|home)/", page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind `aigc` (or `-m aigc_cli`) of every command on the page that succeeds."""
    text = page.read_text(encoding="utf-8")
    inline = [code for code in _CODE.findall(_FENCE.sub("", text)) if code.startswith("aigc ")]
    blocks = "\n".join(_FENCE.findall(text)).replace("\\\n", " ").splitlines()
    for line, answer in pairwise([*blocks, *inline, ""]):
        line = re.sub(r"^\s*(\$ |- run: |\w+=\$\()", "", line).strip()
        shows_a_mistake = re.match(r"error: .* in this recipe$", answer)
        if _COMMAND.match(line) and not shows_a_mistake:
            yield from split(line.rstrip(")"))


def split(line: str) -> Iterator[list[str]]:
    words = shlex.split(line, comments=True)
    starts = [i for i, w in enumerate(words) if w in ("aigc", ".venv/bin/aigc", "aigc_cli")]
    if starts:
        words = words[starts[0] + 1 :]
        end = next((i for i, word in enumerate(words) if word in _SHELL), len(words))
        yield words[:end]


COMMANDS = [
    pytest.param(words, id=f"{ids(page)}: {' '.join(words)}")
    for page in PAGES
    for words in commands(page)
    if page.name != "cli.md"  # generated: its usage lines are no commands
]


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 50


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_parse(words: list[str]) -> None:
    """Commands, options and their values are known, and overrides fit the recipe they change."""
    command: Any = typer.main.get_command(app)
    path, words = [], two_words(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        path.append(words[0])
        assert words[0] in command.commands, " ".join(path)
        command, words = command.commands[words[0]], words[1:]
    if not is_prose(words) and "--help" not in words:
        check_overrides(command.make_context(" ".join(path), list(words)).params)


def is_prose(words: list[str]) -> bool:
    """`aigc train RECIPE`, `aigc sample RUN KEY=VALUE`, or the bare name of a command."""
    return not words or any(re.fullmatch(r"[A-Z_]+(=[A-Z]+)?", word) for word in words)


def is_of_metrics(option: str, names: list[str]) -> bool:
    """Whether it is for `aigc evaluate` itself: an option of a metric, or of how files are read."""
    key = option.partition("=")[0]
    return (bool(names) and belongs(key, names)) or key in ("on_error", "max_pixels", "suffix")


def check_overrides(params: dict[str, Any]) -> None:
    known = recipes()
    recipe = str(params.get("recipe") or "")
    if "overrides" in params and params["overrides"] and recipe != "tiny_gan":
        load_recipe(recipe if recipe in known else "edsr_small_x2", params["overrides"])
    names = [n for text in params.get("metric") or () for n in text.split(",") if n in metrics()]
    options = [o for o in params.get("options") or () if not is_of_metrics(o, resolve(names))]
    if "yardstick" in params:  # `aigc augment`: of the operations and of what measures
        for text in (o.removeprefix("yardstick.") for o in options if o.startswith("yardstick.")):
            load_recipe(params["yardstick"] or "text_classifier_demo", [text])
        return
    source = str(params.get("source") or "").removeprefix("runs/").partition("/")[0]
    keys = {
        f"read.{key}" for name in modalities() for key in find_modality(name).Reading.model_fields
    }
    options = [option for option in options if option.partition("=")[0] not in keys]
    given = [text if text.startswith("model.") else f"sample.{text}" for text in options]
    load_recipe(source if source in known else "edsr_small_x2", given)


def test_readme_states_the_minutes_of_the_recipes() -> None:
    """The recipe's header is the one source; rows on other data than the recipe's have none."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    stated = 0
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 8 and re.fullmatch(r"`(aigc train \w+|make demo)`", cells[7]) and cells[6]:
            header = header_facts(recipes()[cells[0]].path.read_text(encoding="utf-8"))
            assert cells[6] == header["minutes"].split()[0], cells[0]
            stated += 1
    assert stated > 5
    demo = header_facts(recipes()["edsr_small_x2"].path.read_text(encoding="utf-8"))
    assert f"{demo['minutes'].split()[0]} minutes on 2 CPU" in text
