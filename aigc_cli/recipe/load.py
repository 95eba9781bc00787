"""From a file, a name or a checkpoint to a checked recipe."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, PrivateAttr, ValidationError, create_model

from aigc_cli import registry
from aigc_cli.errors import InputError, Problem, RecipeError
from aigc_cli.recipe import outline, strict_yaml
from aigc_cli.recipe import overrides as command_line
from aigc_cli.recipe.fields import show
from aigc_cli.recipe.problems import Places, explain
from aigc_cli.recipe.sections import Evaluate, Name, Section, Trainer

S = TypeVar("S", bound=Section)


class Recipe(Section):
    """A whole experiment, checked. The family types `model` and `sample`, the data kind `data`."""

    family: Name
    """The kind of model: a name of `aigc recipe ls`."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Everything random in the run follows from this number."""
    init_from: Name | None = None
    """Run or checkpoint whose weights the training starts from."""
    data: Section
    """What to train on."""
    model: Section
    """Architecture, objective and optimizers of the family."""
    trainer: Trainer
    """Budget, devices, precision and cadence."""
    sample: Section
    """Defaults of `aigc sample` for this recipe."""
    evaluate: Evaluate = Evaluate()
    """Defaults of `aigc evaluate` for this recipe."""

    _path: Path | None = PrivateAttr(None)

    @property
    def path(self) -> Path | None:
        """The file it was read from, if it was read from one."""
        return self._path

    @property
    def is_trained(self) -> bool:
        """Whether there is something to train; if not, `data` and `trainer` are absent."""
        return getattr(self, "trainer", None) is not None

    @property
    def kind(self) -> str:
        """The data kind: every data section has one."""
        return str(self.data.model_dump()["kind"])

    @property
    def name(self) -> str:
        """The name of its file without the ending; without a file, the family."""
        return self._path.stem if self._path else self.family

    @property
    def bases(self) -> tuple[Path, ...]:
        """Folders where relative data paths are looked up: the current one, then the recipe's."""
        here = Path.cwd()
        return (here, self._path.resolve().parent) if self._path else (here,)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data with every default filled in; `recipe_from_dict` is the inverse."""
        absent = set() if self.is_trained else {"data", "trainer", "init_from"}
        return self.model_dump(mode="json", exclude=absent)

    @property
    def digest(self) -> str:
        """SHA-256 of `as_dict()`: equal for recipes that mean the same, whatever their text."""
        text = json.dumps(self.as_dict(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def load_recipe(
    name_or_path: str | Path, overrides: Iterable[str] = (), *, whole: bool = True
) -> Recipe:
    """Read a recipe and the `key.sub=value` overrides after it.

    Not `whole`, it is checked just as well without importing torch (see outline.py), but its
    sections are not those that the family's model and the data take: to look at, not to run.

    Raises:
        RecipeError: all mistakes of the file and of the overrides.
        InputError: there is no such recipe, or it cannot be read.
    """
    path = registry.find_recipe(str(name_or_path))
    file = display(path)
    document = strict_yaml.parse(_read(path), file)
    given, problems = command_line.split(list(overrides))
    problems = [*document.problems, *problems]
    if any(p.code == "recipe.yaml" for p in problems):
        raise RecipeError(problems)
    try:
        return _build(document.data, given, problems, file, document.lines, path, whole=whole)
    except RecipeError as error:
        if any(p.code == "recipe.unknown_key" for p in error.problems):
            name = shlex.quote(str(name_or_path))
            error.hint = f"aigc recipe show {name} --doc lists every key"
        raise


def recipe_from_text(text: str) -> Recipe:
    """The recipe in a text that lies in no file yet. Raises as `load_recipe`."""
    document = strict_yaml.parse(text.encode(), "recipe")
    return _build(
        document.data, [], list(document.problems), None, document.lines, None, whole=True
    )


def require_trainable(recipe: Recipe) -> Recipe:
    """The recipe, if there is something to train.

    Raises:
        InputError: its family works without training.
    """
    if not recipe.is_trained:
        raise InputError(
            f"'{recipe.name}' works without training data",
            hint=f"aigc sample {recipe.name} --input photo.jpg",
            code="untrained",
        )
    return recipe


def read_recipe(name_or_path: str | Path) -> str:
    """The text of a recipe as it is written.

    Raises:
        RecipeError: it is not UTF-8, or too large.
        InputError: there is no such recipe, or it cannot be read.
    """
    path = registry.find_recipe(str(name_or_path))
    return strict_yaml.decode(_read(path), display(path))


def recipe_type(name_or_path: str | Path, overrides: Iterable[str] = ()) -> type[Recipe]:
    """The keys a recipe may have, from its family and data kind; its other mistakes do not matter.

    Raises: as `load_recipe`, but only for text that is no YAML and for unknown names.
    """
    path = registry.find_recipe(str(name_or_path))
    document = strict_yaml.parse(_read(path), display(path))
    if any(p.code == "recipe.yaml" for p in document.problems):
        raise RecipeError(document.problems)
    given, _ = command_line.split(list(overrides))
    places = _places(display(path), document.lines, given)
    model, problems = _model(_mapping(document.data, places), given, places, whole=False)
    if problems:
        raise RecipeError(problems)
    return model


def recipe_from_dict(
    data: Mapping[str, Any], path: Path | None = None, overrides: Iterable[str] = ()
) -> Recipe:
    """The recipe of `Recipe.as_dict`; `path` is the file it came from, for its name and its folder.

    Raises:
        RecipeError: the data is no recipe of this version, or an override is wrong.
    """
    try:
        plain = json.loads(json.dumps(data))
    except (TypeError, ValueError, RecursionError) as error:
        raise RecipeError([Problem(f"the recipe is no plain data: {error}")]) from error
    given, problems = command_line.split(list(overrides))
    return _build(plain, given, problems, None, {}, path, whole=True)


def section_from_texts(section: type[S], texts: Iterable[str], name: str = "") -> S:
    """A section of these KEY=VALUE and its defaults, for what is asked on the command line.

    Raises:
        RecipeError: unknown keys and wrong values, each with `name` before its key where the user
            writes it there.
    """
    whole: type[Section] = section
    if name:
        texts = [f"{name}.{text}" for text in texts]
        whole = create_model("Asked", __base__=Section, **{name: (section, section())})  # type: ignore[call-overload]
    given, problems = command_line.split(list(texts))
    data: dict[str, Any] = {}
    for override in given:
        problems += command_line.apply(data, override, whole)
    try:
        made = whole.model_validate_json(json.dumps(data))
    except ValidationError as error:
        problems += explain(error, data, whole, _places(None, {}, given))
    if problems:
        raise RecipeError(problems)
    found: Any = getattr(made, name) if name else made
    assert isinstance(found, section)
    return found


def display(path: Path) -> str:
    """The path as a person would type it: relative to the current folder when it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(strict_yaml.MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _build(
    data: Any,
    given: list[command_line.Override],
    problems: list[Problem],
    file: str | None,
    lines: Mapping[strict_yaml.Path, int],
    path: Path | None,
    *,
    whole: bool,
) -> Recipe:
    places = _places(file, lines, given)
    data = _mapping(data, places)
    model, unknown = _model(data, given, places, whole=whole)
    for override in given:
        problems += command_line.apply(data, override, model)
    problems += unknown
    try:
        recipe = model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        problems += explain(error, data, model, places)
    if problems:  # those of the file by line, then those of the command line
        raise RecipeError(
            sorted(problems, key=lambda p: (p.file == command_line.PLACE, p.line or 0))
        )
    recipe._path = path
    return recipe


def _places(
    file: str | None, lines: Mapping[strict_yaml.Path, int], given: list[command_line.Override]
) -> Places:
    return Places(file, lines, frozenset(override.path for override in given))


def _mapping(data: Any, places: Places) -> dict[str, Any]:
    if not isinstance(data, dict):
        message = f"a recipe is keys with values, such as family: edsr, not {show(data)}"
        raise RecipeError([Problem(message, "recipe.wrong_type", places.file)])
    return data


def _model(
    data: dict[str, Any], given: list[command_line.Override], places: Places, *, whole: bool
) -> tuple[type[Recipe], list[Problem]]:
    """The recipe class for the family and the data kind that are named; what is wrong with them.

    A part whose name is wrong accepts anything, so that the other parts are still checked.
    """
    problems: list[Problem] = []
    for override in given:
        if override.path in (("family",), ("data", "kind")):
            command_line.put(data, override.path, override.text)

    def load(path: tuple[str, ...], name: Any, loader: Any) -> Any:
        if not isinstance(name, str):
            return None  # absent or of a wrong type, which validation reports
        try:
            return loader(name, whole=whole)
        except InputError as error:
            file, line = places.of(path)
            key, code = ".".join(path), f"recipe.{error.code}"
            problems.append(Problem(error.message, code, file, line, key, error.hint))
            return None

    family = load(("family",), data.get("family"), outline.family)
    section = data.get("data")
    kind_name = section.get("kind") if isinstance(section, dict) else None
    config = load(("data", "kind"), kind_name, outline.data_config)
    untrained = family is not None and family.training_free
    for part in ("data", "trainer", "init_from") if untrained else ():
        if data.get(part) is not None:
            file, line = places.of((part,))
            message = f"family '{data['family']}' is not trained, so its recipe has no '{part}'"
            hint = "leave it out; `aigc sample` takes the recipe itself"
            problems.append(Problem(message, "recipe.untrained", file, line, part, hint))
            data.pop(part)
    return recipe_model(
        family.Config if family else None,
        family.Options if family else None,
        config,
        untrained=untrained,
    ), problems


@cache
def recipe_model(
    config: type[Section] | None,
    options: type[Section] | None,
    data: type[Section] | None,
    *,
    untrained: bool = False,
) -> type[Recipe]:
    """`Recipe` with the sections of one family and one data kind; None accepts anything.

    A family that is not trained has neither data nor trainer.
    """
    parts: dict[str, Any] = {"model": _part("model", config), "sample": _part("sample", options)}
    if untrained:
        parts |= {"data": (None, None), "trainer": (None, None)}
    else:
        parts["data"] = _part("data", data, required=True)
    return create_model("Recipe", __base__=Recipe, **parts)


class _Anything(Section, extra="allow"):
    """Stands for a section whose class is unknown."""


class _AnyData(_Anything):
    kind: Name
    """Name of the data kind."""


def _part(name: str, section: type[Section] | None, *, required: bool = False) -> Any:
    """Annotation and default of a section; it may be left out when its fields all have defaults."""
    text = Recipe.model_fields[name].description
    kind = section or (_AnyData if required else _Anything)
    if required or any(f.is_required() for f in kind.model_fields.values()):
        return kind, Field(description=text)
    return kind, Field(default_factory=kind, description=text)
