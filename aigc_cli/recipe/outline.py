"""The settings of a family or a kind of data, without the packages it computes with.

Importing a family imports torch, which takes seconds; its `Config` and `Options` need a few of the
file's statements. Those are found by following names from the classes through the syntax tree, on
into other files of aigc where they come from there, and only they are executed. What they check is
what the whole file checks, because it is the same source.

A file of AIGC_PATH is imported as a whole: that it can be imported is part of its check. So is a
file whose settings cannot be had without torch.
"""

from __future__ import annotations

import ast
import linecache
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from aigc_cli import registry
from aigc_cli.recipe.sections import Section
from aigc_cli.registry import PACKAGE

# What may be imported as it is; anything else that settings need makes them too heavy.
LIGHT = ("aigc_cli.errors", "aigc_cli.recipe", "aigc_cli.registry", "pydantic")


class TooHeavy(Exception):
    """The settings need a package that takes long to import."""


@dataclass(frozen=True)
class Family:
    """What a recipe needs to know of a family."""

    Config: type[Section]
    Options: type[Section]
    training_free: bool


def family(name: str, *, whole: bool = False) -> Family:
    """Of the family `name`; `whole` imports it, as running a recipe needs.

    Raises: as `registry.load_family`.
    """
    found = registry.families().get(name)
    if not whole and found is not None and found.path.is_relative_to(PACKAGE):
        with suppress(TooHeavy):
            module = _outline(found.path, ("Config", "Options"))
            free = bool(_constant(found.path, "Model", "training_free"))
            return Family(module.Config, module.Options, free)
    loaded = registry.load_family(name)
    return Family(loaded.Config, loaded.Options, getattr(loaded.Model, "training_free", False))


def data_config(name: str, *, whole: bool = False) -> type[Section]:
    """`Config` of a kind of data; as `family`. Raises: as `registry.load_data_kind`."""
    path = registry.data_kinds().get(name)
    if not whole and path is not None and path.is_relative_to(PACKAGE):
        with suppress(TooHeavy):
            config: type[Section] = _outline(path, ("Config",)).Config
            return config
    loaded: type[Section] = registry.load_data_kind(name).Config
    return loaded


def _outline(path: Path, names: Iterable[str]) -> ModuleType:
    """A module that has these names of the file, and nothing that they do not need.

    Raises:
        TooHeavy: they need what may not be imported.
    """
    name = ".".join(("aigc_outline", *path.relative_to(PACKAGE).with_suffix("").parts))
    module = sys.modules.setdefault(name, ModuleType(name))  # where pydantic resolves annotations
    definitions = _definitions(path)
    needed: dict[str, ast.stmt] = {}
    waiting = [n for n in names if not hasattr(module, n)]
    while waiting:
        known = waiting.pop()
        if known in needed or hasattr(module, known) or known not in definitions:
            continue  # of a builtin or a local variable there is no definition
        needed[known] = node = definitions[known]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            setattr(module, known, _imported(node, known))
        else:
            used = (n for n in ast.walk(node) if isinstance(n, ast.Name))
            waiting += [n.id for n in used if isinstance(n.ctx, ast.Load)]
    own = {id(node): node for node in needed.values()}
    _execute(path, module, [n for n in _tree(path).body if id(n) in own])
    return module


def _execute(path: Path, module: ModuleType, body: list[ast.stmt]) -> None:
    """Execute some of the file's statements, imports excepted, at their lines of the file.

    The code has a file name of its own, whose lines `linecache` knows: pydantic takes the
    documentation of fields from there, and the whole module, if it comes later, from the file.
    """
    name = f"{path} (settings)"
    text = path.read_text(encoding="utf-8")
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    first = ast.ImportFrom("__future__", [ast.alias("annotations", lineno=1, col_offset=0)], 0)
    kept = [n for n in body if not isinstance(n, (ast.Import, ast.ImportFrom))]
    tree = ast.Module([ast.fix_missing_locations(first), *kept], [])
    module.__file__ = name
    exec(compile(tree, name, "exec"), module.__dict__)  # noqa: S102  # source of this package


def _imported(node: ast.Import | ast.ImportFrom, name: str) -> Any:
    """What an import statement of the file binds to the name."""
    alias = next(a for a in node.names if name in (a.asname, a.name, a.name.partition(".")[0]))
    source = alias.name if isinstance(node, ast.Import) else str(node.module)
    inner = PACKAGE.joinpath(*source.split(".")[1:]).with_suffix(".py")
    if source.split(".")[0] in sys.stdlib_module_names or source.startswith(LIGHT):
        module = import_module(source)
        return module if isinstance(node, ast.Import) else getattr(module, alias.name)
    if not source.startswith("aigc_cli.") or isinstance(node, ast.Import) or not inner.is_file():
        raise TooHeavy(source)
    found = _outline(inner, (alias.name,))
    if not hasattr(found, alias.name):
        raise TooHeavy(f"{source}.{alias.name}")
    return getattr(found, alias.name)


def _constant(path: Path, owner: str, name: str) -> Any:
    """A literal in the body of a class, or of the first of its bases that has it; else None."""
    node = _definitions(path).get(owner)
    if isinstance(node, ast.ImportFrom):
        file = PACKAGE.joinpath(*str(node.module).split(".")[1:]).with_suffix(".py")
        return _constant(file, owner, name) if file.is_file() else None
    if not isinstance(node, ast.ClassDef):
        return None
    for statement in node.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return ast.literal_eval(statement.value)
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    values = (_constant(path, base, name) for base in bases)
    return next((value for value in values if value is not None), None)


@cache
def _tree(path: Path) -> ast.Module:
    """The file's syntax tree; its classes have no methods but those that make and check them."""
    tree = ast.parse(path.read_bytes())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            methods = [m for m in node.body if isinstance(m, ast.FunctionDef)]
            decorated = [m for m in methods if m.decorator_list]
            inner = [n for m in decorated for n in ast.walk(m)]
            called = {n.attr for n in inner if isinstance(n, ast.Attribute)}
            unused = [m for m in methods if m not in decorated and m.name not in called]
            node.body = [n for n in node.body if n not in unused] or [ast.Pass()]
            ast.fix_missing_locations(node)
    return tree


@cache
def _definitions(path: Path) -> dict[str, ast.stmt]:
    """{name: statement} of all that the file defines or imports at its top."""
    found: dict[str, ast.stmt] = {}
    for node in _tree(path).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            found[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found
