"""What can be said of a command's words before torch is imported: names, keys and files.

The commands call these first, so that a mistake is an answer of half a second. Nothing is decided
here that is not checked again where it is used.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from aigc_cli import registry
from aigc_cli.catalog.builtin import PREFIX
from aigc_cli.catalog.find import holds_run, require_no_run, resolve
from aigc_cli.data._paths import find_path, is_named, json_part, nearest_data
from aigc_cli.errors import DataError, InputError, RecipeError
from aigc_cli.recipe import overrides as command_line
from aigc_cli.recipe.load import Recipe, load_recipe, require_trainable
from aigc_cli.run.paths import RUNS, RunPaths, find_checkpoint

WEIGHTS = (".ckpt", ".pth", ".pt", ".safetensors", ".gguf")  # endings of their files
PARTS = ("val", "train")  # of the recipe's data, for `aigc evaluate --reference`


def check_training(recipe: str | None, overrides: Sequence[str], resume: str | None) -> None:
    """
    Raises:
        InputError: no recipe is named, or there is no such recipe or run to resume.
        RecipeError: all mistakes of the recipe and the overrides. DataError: data is not there.
    """
    if recipe is not None and recipe.endswith(WEIGHTS) and Path(recipe).is_file():
        raise InputError(
            f"{recipe!r} is a file of weights and no recipe",
            hint=f"train them further with: aigc train RECIPE init_from={shlex.quote(recipe)}",
        )
    if recipe is not None and recipe not in registry.recipes():
        require_no_run(Path(recipe))
    if recipe is not None and _is_data(recipe):
        raise InputError(
            f"{recipe!r} is data and no recipe",
            hint=f"say how long it may take: aigc train {shlex.quote(recipe)} --budget 20m",
        )
    if recipe is not None and ("=" not in recipe or Path(recipe).exists()):
        found = require_trainable(load_recipe(recipe, overrides, whole=False))
        _require_sources(found)
    elif resume in (None, "auto"):
        raise InputError("missing argument 'RECIPE'", hint="list recipes with: aigc recipe ls")
    else:
        find_checkpoint(str(resume))


def _require_sources(recipe: Recipe) -> None:
    """The files and folders that a kind of data of the package trains on."""
    if not registry.data_kinds()[recipe.kind].is_relative_to(registry.PACKAGE):
        return  # what its keys mean is its own affair
    for name, value in recipe.data:
        texts = [value] if isinstance(value, str) else value
        if not name.startswith("train") or not isinstance(texts, list | tuple):
            continue
        for text in texts:
            if not isinstance(text, str) or text.startswith(("hf:", "builtin:photos")):
                continue  # of a package, not of files
            try:
                file, _ = json_part(text) or (text, None)
                if not is_named(file, recipe.bases):
                    find_path(file, recipe.bases)
            except DataError as error:
                raise DataError(f"data.{name}: {error.message}", hint=error.hint) from error


def check_budget(subject: str | None, overrides: Sequence[str], goal: str | None) -> bool:
    """Whether it is data that is to be trained on, and no recipe.

    Raises:
        InputError: it is neither, or there is a goal for a recipe. DataError: a set that is not
            here. RecipeError: all mistakes of the recipe and the overrides.
    """
    if subject is None or ("=" in subject and not Path(subject).exists()):
        raise InputError("--budget: train what?", hint="name a recipe, a folder or a file of data")
    _require_no_run(subject)
    if _is_data(subject):
        return True
    try:
        require_trainable(load_recipe(subject, overrides, whole=False))
    except InputError as error:
        if error.code != "unknown_recipe":
            raise
        if is_source(subject):  # a set of the catalog; raises where it is not here
            return True
        raise InputError(
            f"{subject!r} is no folder, file or set of data, and no recipe",
            hint=nearest_data(subject, others=registry.recipes()),
        ) from error
    if goal is not None:
        raise InputError(f"--goal is for data, and '{subject}' is a recipe", hint="leave it out")
    return False


def _is_data(text: str) -> bool:
    """Whether the text names data: a recipe of that name goes before, as its runs may be there."""
    if is_named(text):
        return True
    path = Path(text).expanduser()
    is_recipe = text in ("", *registry.recipes()) or path.suffix.lower() in (".yaml", ".yml")
    return not is_recipe and os.path.exists(path)


def check_source(source: str, options: Sequence[str] = ()) -> None:
    """A run, a checkpoint, or a recipe that needs no training, and `options` of its family.

    Raises:
        InputError: there is no such thing. RecipeError: wrong options.
    """
    path = Path(source)
    given = [text if text.startswith("model.") else f"sample.{text}" for text in options]
    is_run = path.exists() and path.suffix not in (".yaml", ".yml")
    if not is_run and not (RUNS / path).is_dir():
        try:
            untrained = not load_recipe(source, whole=False).is_trained
        except RecipeError:
            raise
        except InputError:
            untrained = False  # no recipe either, says find_checkpoint
        else:
            if not untrained:
                raise InputError(
                    f"there is no run of '{source}' in {RUNS}/, and it needs training",
                    hint=f"aigc train {source}",
                )
        if untrained:
            load_recipe(source, given, whole=False)
            return
    run = RunPaths(find_checkpoint(source).parent.parent)
    if (
        options and run.recipe.is_file() and run.checkpoints.is_dir()
    ):  # what the checkpoint says counts, but keys are the same
        try:
            load_recipe(run.recipe, given, whole=False)
        except RecipeError as error:
            problems = [p for p in error.problems if p.file == command_line.PLACE]
            if problems:
                raise RecipeError(problems, hint=error.hint) from error


def check_data(text: str, overrides: Sequence[str]) -> None:
    """What `aigc data` looks at: a recipe or a source of data.

    Raises:
        InputError: it is neither. RecipeError: mistakes of the recipe and the overrides.
    """
    _require_no_run(text)
    if is_source(text) and Path(text).suffix not in (".yaml", ".yml"):
        return
    try:
        require_trainable(load_recipe(text, overrides, whole=False))
    except InputError as error:
        if error.code != "unknown_recipe":
            raise
        raise InputError(
            f"{text!r} is no folder or file here, and no recipe",
            hint=nearest_data(text, others=registry.recipes()),
        ) from error


def require_paths(option: str, *paths: Path | str | None) -> None:
    """Files, folders and other sources of data that an option names.

    Raises:
        DataError: one of them is not there.
    """
    for path in paths:
        if path is not None and not is_source(str(path)):
            try:
                find_path(str(path), ())
            except DataError as error:
                raise DataError(f"{option}: {error.message}", hint=error.hint) from error


def is_source(text: str) -> bool:
    """Whether there is such a file or folder, or the text names data in another way."""
    if is_named(text):
        return True
    found = resolve(text)
    return os.path.exists(found) and not holds_run(Path(found))


def _require_no_run(text: str) -> None:
    """
    Raises:
        DataError: it is the folder of a run.
    """
    if text not in registry.recipes() and not text.startswith(PREFIX):
        require_no_run(Path(resolve(text)))
