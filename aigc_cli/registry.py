"""A name is a file name: families, data kinds, metrics and recipes are found by listing folders.

    models/<room>/<family>.py     data/<kind>.py     recipes/<room>/<name>.yaml
    metrics/<modality>/<name>.py
    modalities/<modality>.py     specs/<modality>.py     augment/<modality>.py

The folders of the installation come first, then every folder named in AIGC_PATH (separated as in
PATH) that has the same layout. Names that start with `_` are no families. Nothing is imported
before a `load_` function is called, so listing costs a few directory reads.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from aigc_cli.errors import AigcError, InputError, did_you_mean

T = TypeVar("T")

PACKAGE = Path(__file__).resolve().parent
# A wheel carries the recipes inside the package; in a checkout they lie beside it.
RECIPES = PACKAGE / "_recipes" if (PACKAGE / "_recipes").is_dir() else PACKAGE.parent / "recipes"


@dataclass(frozen=True)
class FamilyFile:
    """`models/<room>/<name>.py`, not yet imported."""

    name: str
    room: str
    path: Path

    @property
    def summary(self) -> str:
        """What it makes: the first line of the file's docstring, read without importing it."""
        return _first_line(self.path)


@dataclass(frozen=True)
class RecipeFile:
    """`recipes/<room>/<name>.yaml`, not yet read."""

    name: str
    room: str
    path: Path


@dataclass(frozen=True)
class MetricFile:
    """`metrics/<modality>/<name>.py`, not yet imported: a metric, or a group of them."""

    name: str
    modality: str
    path: Path

    @property
    def summary(self) -> str:
        """What it is: the first line of the file's docstring, read without importing it."""
        return _first_line(self.path)

    @property
    def group(self) -> tuple[str, ...]:
        """The metrics that the name stands for: `GROUP` of the file; empty for a metric."""
        return tuple(_literals(self._tree().body).get("GROUP", ()))

    @property
    def facts(self) -> dict[str, Any]:
        """What `class Metric` says of itself in literals, such as `unit` and `protocol`."""
        body = self._tree().body
        found = [n for n in body if isinstance(n, ast.ClassDef) and n.name == "Metric"]
        return _literals(found[0].body) if found else {}

    def _tree(self) -> ast.Module:
        try:
            return ast.parse(self.path.read_bytes())
        except (OSError, SyntaxError, ValueError):  # said when it is imported
            return ast.Module([], [])


def families() -> dict[str, FamilyFile]:
    """Every family by name.

    Raises:
        InputError: two files have the same name, or AIGC_PATH names a folder that is not there.
    """
    roots = [PACKAGE / "models", *(user / "models" for user in user_folders())]
    files = (FamilyFile(f.stem, f.parent.name, f) for root in roots for f in _list(root, "*/*.py"))
    return _unique("family", ((f.name, f.path, f) for f in files))


def data_kinds() -> dict[str, Path]:
    """The file of every kind of data by name. Raises as `families`."""
    roots = [PACKAGE / "data", *(user / "data" for user in user_folders())]
    files = (f for root in roots for f in _list(root, "*.py"))
    return _unique("data kind", ((f.stem, f, f) for f in files))


def metrics() -> dict[str, MetricFile]:
    """The file of every metric, and of every group of them, by name. Raises as `families`."""
    roots = [PACKAGE / "metrics", *(user / "metrics" for user in user_folders())]
    files = (MetricFile(f.stem, f.parent.name, f) for root in roots for f in _list(root, "*/*.py"))
    return _unique("metric", ((f.name, f.path, f) for f in files))


def recipes() -> dict[str, RecipeFile]:
    """Every recipe by name. Raises as `families`."""
    roots = [RECIPES, *(user / "recipes" for user in user_folders())]
    files = (
        RecipeFile(f.stem, f.parent.name, f) for root in roots for f in _list(root, "*/*.yaml")
    )
    return _unique("recipe", ((f.name, f.path, f) for f in files))


def load_family(name: str) -> ModuleType:
    """The imported family file, with `Config`, `Options` and `Model`.

    Raises:
        InputError: the name is unknown, or a file of the user's fails to import or lacks a class.
    """
    known = families()
    if name not in known:
        raise InputError(
            f"unknown family {name!r}", hint=did_you_mean(name, known), code="unknown_family"
        )
    return _load(known[name].path, ("Config", "Options", "Model"))


def load_data_kind(name: str) -> ModuleType:
    """The imported data file, with `Config` and `Data`. Raises as `load_family`."""
    known = data_kinds()
    if name not in known:
        raise InputError(
            f"unknown data kind {name!r}", hint=did_you_mean(name, known), code="unknown_data_kind"
        )
    return _load(known[name], ("Config", "Data"))


def load_metric(name: str) -> ModuleType:
    """The imported file of a metric, with `Metric`. Raises as `load_family`."""
    known = metrics()
    if name not in known:
        raise InputError(f"unknown metric {name!r}", hint=did_you_mean(name, known))
    return _load(known[name].path, ("Metric",))


def modalities() -> dict[str, Path]:
    """The file of every modality by name. Raises as `families`."""
    roots = [PACKAGE / "modalities", *(user / "modalities" for user in user_folders())]
    files = (f for root in roots for f in _list(root, "*.py"))
    return _unique("modality", ((f.stem, f, f) for f in files))


def load_modality(name: str) -> ModuleType:
    """The imported modality file, with `Modality`. Raises as `load_family`."""
    known = modalities()
    if name not in known:
        raise InputError(
            f"unknown modality {name!r}", hint=did_you_mean(name, known), code="unknown_modality"
        )
    return _load(known[name], ("Modality",))


def augmentations() -> dict[str, Path]:
    """The file of every modality's augmentation by name. Raises as `families`."""
    roots = [PACKAGE / "augment", *(user / "augment" for user in user_folders())]
    files = (f for root in roots for f in _list(root, "*.py"))
    return _unique("augmentation", ((f.stem, f, f) for f in files))


def load_augmentation(name: str) -> ModuleType:
    """The imported file `augment/<modality>.py`, with `Augmentation`. Raises as `load_family`."""
    known = augmentations()
    if name not in known:
        raise InputError(
            f"things of modality '{name}' are not augmented", hint=did_you_mean(name, known)
        )
    return _load(known[name], ("Augmentation",))


def spec_files() -> dict[str, Path]:
    """The file of specs of every modality by name. Raises as `families`."""
    roots = [PACKAGE / "specs", *(user / "specs" for user in user_folders())]
    files = (f for root in roots for f in _list(root, "*.py"))
    return _unique("specs", ((f.stem, f, f) for f in files))


def load_specs(name: str) -> ModuleType:
    """The imported file of a modality's specs, for data kinds and families in AIGC_PATH, which
    cannot import each other. Raises as `load_family`.
    """
    known = spec_files()
    if name not in known:
        raise InputError(f"there is no specs/{name}.py", hint=did_you_mean(name, known))
    return _load(known[name], ())


def find_recipe(text: str) -> Path:
    """The file of a recipe given as a path or as a name: `edsr_small_x2`, `image/edsr_small_x2`.

    A file that exists wins over a recipe of that name; the ending .yaml may be left out of names.

    Raises:
        InputError: there is no such file and no such recipe.
    """
    try:
        if Path(text).is_file():
            return Path(text)
    except (OSError, ValueError):  # a name too long for the file system, or with a NUL
        pass
    known = recipes()
    names = {r.name: r.path for r in known.values()}
    names |= {f"{r.room}/{r.name}": r.path for r in known.values()}
    name = text.removesuffix(".yaml")
    if name in names:
        return names[name]
    full = "/" in name
    raise InputError(
        f"there is no recipe '{text}': neither a file nor the name of a recipe",
        hint=did_you_mean(name, (n for n in names if ("/" in n) == full), ls="aigc recipe ls"),
        code="unknown_recipe",
    )


def user_folders() -> list[Path]:
    """The folders of AIGC_PATH, in its order.

    Raises:
        InputError: one of them does not exist.
    """
    folders = [Path(p) for p in os.environ.get("AIGC_PATH", "").split(os.pathsep) if p]
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"AIGC_PATH names '{folder}', which is not a folder")
    return folders


def _literals(body: Sequence[ast.stmt]) -> dict[str, Any]:
    """The names that are set to literals in the body of a file or class."""
    found = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with suppress(ValueError):
                found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def _list(root: Path, pattern: str) -> list[Path]:
    files = (f for f in root.glob(pattern) if not f.name.startswith(("_", ".")))
    return sorted(f for f in files if not f.parent.name.startswith(("_", ".")))


def _unique(what: str, entries: Iterable[tuple[str, Path, T]]) -> dict[str, T]:
    found: dict[str, T] = {}
    paths: dict[str, Path] = {}
    for name, path, entry in entries:
        if name in found:
            raise InputError(
                f"two files are named {what} '{name}': {paths[name]} and {path}",
                hint="rename one of them",
            )
        found[name], paths[name] = entry, path
    return found


def _load(path: Path, needs: Sequence[str]) -> ModuleType:
    shipped = path.is_relative_to(PACKAGE)
    module = _import_shipped(path) if shipped else _import_user(path)
    missing = [name for name in needs if not isinstance(getattr(module, name, None), type)]
    if missing:
        raise InputError(f"{path} defines no class {' and no class '.join(missing)}")
    from aigc_cli.recipe.sections import Section  # here, so that listing does not wait for pydantic

    for name in ("Config", "Options"):
        if name in needs and not issubclass(getattr(module, name), Section):
            raise InputError(f"{path}: {name} is no subclass of aigc_cli.recipe.sections.Section")
    for name in needs:  # of a family's Model models/_contract.py says more
        if name != "Model" and (absent := _absent(getattr(module, name))):
            raise InputError(f"{path}: {name} has no {', '.join(absent)}", code="family")
    return module


def _absent(cls: type) -> list[str]:
    """What the bases of a class leave to it and it does not have: facts that they declare as
    ClassVar without a value, and abstract methods.
    """
    declared = {
        name
        for base in cls.__mro__
        for name, kind in vars(base).get("__annotations__", {}).items()
        if str(kind).startswith("ClassVar")
    }
    facts = {name for name in declared if not hasattr(cls, name)}
    return sorted(facts | getattr(cls, "__abstractmethods__", frozenset()))


def _import_shipped(path: Path) -> ModuleType:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return importlib.import_module(".".join((PACKAGE.name, *parts)))


def _import_user(path: Path) -> ModuleType:
    """Import a file of AIGC_PATH, under a name that equal names in other folders do not share."""
    path = path.resolve()
    name = f"aigc_path_{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before execution: annotations are looked up in it
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        if isinstance(error, AigcError):
            raise
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise InputError(f"{path}{_line_in(error, path)} cannot be imported: {reason}") from error
    return module


def place_in_user_file(error: BaseException) -> str | None:
    """`FILE:LINE` where a file of AIGC_PATH raised or caused the error; None where none did."""
    try:
        folders = [folder.resolve() for folder in user_folders()]
    except InputError:
        return None
    for file, line in reversed(list(_frames(error))):
        if any(Path(file).is_relative_to(folder) for folder in folders):
            return f"{file}:{line}"
    return None


def _line_in(error: BaseException, path: Path) -> str:
    """`:LINE` of the last frame of the traceback that lies in the file, if there is one."""
    lines = [line for file, line in _frames(error) if file == str(path)]
    return f":{lines[-1]}" if lines else ""


def _frames(error: BaseException) -> Iterator[tuple[str, int]]:
    if isinstance(error, SyntaxError):
        yield error.filename or "", error.lineno or 0
    trace = error.__traceback__
    while trace:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next


def _first_line(path: Path) -> str:
    try:
        text = ast.get_docstring(ast.parse(path.read_bytes()))
    except (OSError, SyntaxError, ValueError):
        return ""
    return text.splitlines()[0] if text else ""
