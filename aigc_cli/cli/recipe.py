"""`aigc recipe`: find, copy, write and check recipes."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli import registry
from aigc_cli.cli._output import Debug, Json, Output, Overrides, Quiet, RecipeName
from aigc_cli.cli._table import records, table
from aigc_cli.errors import InputError, OutputError, RecipeError, did_you_mean

COLUMNS = ("recipe", "makes", "from", "get", "family", "data", "parameters", "minutes", "score")
SHORT = ("recipe", "makes", "params", "minutes")

app = typer.Typer(help="Find, copy, write and check recipes.")

Outfile = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Write to this file instead of stdout.", show_default=False),
]


@app.command()
def ls(
    filters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILTER]...",
            help="Words to look for in all columns, or in one: family=edsr.",
            show_default=False,
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show every column, in full.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the recipes of aigc and of the folders in AIGC_PATH."""
    every = recipe_rows()
    keep = [_filter(text, every) for text in filters or ()]
    rows = [row for row in every if all(accepts(row) for accepts in keep)]
    if full:
        text = records(rows, COLUMNS)
    else:
        text = table(map(_short, rows), SHORT, wrap=False, drop=("params",), grouped=True)
    output = Output(json, quiet)
    output.result({"recipes": rows}, text if rows else None)
    if not rows:
        output.log("no recipe matches all of the filters")
    elif sys.stdout.isatty() and not full:
        output.log("\nAll columns: aigc recipe ls --full      One recipe: aigc recipe show RECIPE")


@app.command()
def show(
    recipe: RecipeName,
    overrides: Overrides = None,
    full: Annotated[bool, typer.Option("--full", help="Include all default values.")] = False,
    doc: Annotated[
        bool, typer.Option("--doc", help="List all keys with type, default and description.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Print a recipe; with --full or overrides, the resolved values."""
    from aigc_cli.catalog.uses import how_to_get_all
    from aigc_cli.recipe import strict_yaml
    from aigc_cli.recipe.keys import keys
    from aigc_cli.recipe.load import load_recipe, read_recipe, recipe_type
    from aigc_cli.recipe.write import to_yaml

    out = Output(json, quiet)
    if doc:
        known = list(keys(recipe_type(recipe, overrides or ())))
        out.result({"keys": [key.as_dict() for key in known]}, "\n".join(map(str, known)))
        return
    if full or overrides or json:
        loaded = load_recipe(recipe, overrides or (), whole=False)
        resolved = loaded.as_dict()
        facts = {"path": str(loaded.path), "digest": loaded.digest, "recipe": resolved}
        out.result(facts, to_yaml(resolved).rstrip())
        return
    text = read_recipe(recipe)
    out.result({}, text.rstrip())
    found = strict_yaml.parse(text.encode(), recipe).data
    get = how_to_get_all(found) if isinstance(found, dict) else None
    if get is not None:
        out.log("its data is built in" if get == "built in" else f"get its data: {get}")


@app.command()
def cp(
    recipe: RecipeName,
    dest: Annotated[Path, typer.Argument(metavar="DEST", help="New file, or a folder.")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Copy a recipe for editing; existing files are never overwritten."""
    from aigc_cli.recipe.header import with_schema
    from aigc_cli.recipe.load import read_recipe

    path = dest / registry.find_recipe(recipe).name if dest.is_dir() else dest
    _write_new(path, with_schema(read_recipe(recipe), _schema_for(path)))
    output = Output(json, quiet)
    output.result({"path": str(path)}, str(path))
    output.next(f"aigc train {shlex.quote(str(path))}")


@app.command()
def new(
    family: Annotated[str, typer.Option(help="Model family (see `aigc recipe ls --full`).")],
    data: Annotated[str, typer.Option(help="Training data: a folder, a zip, hf:NAME ...")],
    overrides: Overrides = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Kind of data, if the family supports several.", show_default=False),
    ] = None,
    out: Outfile = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a commented recipe that fits your data."""
    from aigc_cli.recipe.header import with_schema
    from aigc_cli.recipe.load import recipe_from_text
    from aigc_cli.recipe.new import new_recipe
    from aigc_cli.run.build import build

    if out:
        _refuse_existing(out)  # before the work of looking at the data
    path = out or Path("recipe.yaml")
    body = new_recipe(family, data, kind=kind, overrides=overrides or ())
    build(recipe_from_text(body))  # what training would refuse is refused here
    next_line = f"aigc train {shlex.quote(str(path))}"
    text = with_schema(f"# {next_line}\n{body}", _schema_for(path))
    if out:
        _write_new(out, text)
        output = Output(json, quiet)
        output.log(f"train with: {next_line}")
        output.result({"path": str(out), "next": next_line}, str(out))
    else:
        Output(json, quiet).result({"text": text}, text.rstrip())


@app.command()
def check(
    recipes: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE... [KEY=VALUE]...", help="Recipe files or names, then overrides."
        ),
    ],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check recipes and report all errors."""
    from aigc_cli.recipe.load import load_recipe

    names = [text for text in recipes if "=" not in text or Path(text).is_file()]
    overrides = [text for text in recipes if text not in names]
    if not names:
        raise InputError("name at least one recipe to check", code="usage")
    rows: list[dict[str, Any]] = []
    problems = []
    for name in names:
        try:
            digest = load_recipe(name, overrides, whole=False).digest
            rows.append({"recipe": name, "ok": True, "digest": digest})
        except InputError as error:
            rows.append({"recipe": name, "ok": False})
            problems += error.problems
    text = "\n".join(f"ok  {row['recipe']}" for row in rows if row["ok"])
    if problems:
        Output(json, quiet).fail(RecipeError(dict.fromkeys(problems)), {"recipes": rows}, text)
    Output(json, quiet).result({"recipes": rows}, text)


@app.command()
def diff(
    a: RecipeName, b: RecipeName, json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """Compare the resolved values of two recipes."""
    from aigc_cli.recipe.diff import differences
    from aigc_cli.recipe.load import load_recipe

    found = differences(load_recipe(a, whole=False), load_recipe(b, whole=False))
    rows = [{"key": d.key, a: d.show(d.a), b: d.show(d.b)} for d in found]
    text = table(rows, ("key", a, b)) if rows else "the recipes are equal"
    Output(json, quiet).result({"differences": [d.as_dict() for d in found]}, text)


@app.command()
def schema(
    out: Outfile = None, json: Json = False, quiet: Quiet = False, debug: Debug = False
) -> None:
    """Print the JSON schema of recipes, for editors."""
    from json import dumps

    from aigc_cli.media.files import write_bytes
    from aigc_cli.recipe.schema import recipe_schema

    found = recipe_schema()
    text = dumps(found, indent=2, ensure_ascii=False)
    if out:
        write_bytes(out, f"{text}\n".encode())
        Output(json, quiet).result({"path": str(out)}, str(out))
    else:
        Output(json, quiet).result({"schema": found}, text)


def recipe_rows() -> list[dict[str, Any]]:
    """What `ls` knows of each recipe without importing its family: its names and its header."""
    from aigc_cli.catalog.uses import how_to_get_all
    from aigc_cli.recipe import header, strict_yaml

    rows = []
    for file in registry.recipes().values():
        raw = file.path.read_bytes()
        data = strict_yaml.parse(raw, str(file.path)).data
        top: Mapping[str, Any] = data if isinstance(data, dict) else {}
        section = top.get("data")
        kind = section.get("kind") if isinstance(section, dict) else None
        names = {"recipe": f"{file.room}/{file.name}", "family": top.get("family"), "data": kind}
        facts = dict.fromkeys(header.KEYS) | header.facts(raw.decode(errors="replace"))
        rows.append(names | facts | {"get": how_to_get_all(top), "path": str(file.path)})
    return rows


def _short(row: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers alone: `1,369,859` parameters as 1.37M, `3 (2 CPU cores)` minutes as 3."""
    count = str(row["parameters"] or "").replace(",", "")
    minutes = re.match(r"[\d.]+", row["minutes"] or "")
    return {
        **row,
        "params": _millions(int(count)) if count.isdecimal() else None,
        "minutes": minutes[0] if minutes else None,
    }


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f}M" if count < 99_950_000 else f"{count / 1e9:.1f}B"


def _filter(text: str, rows: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], bool]:
    """`family=edsr` looks in one column, a word in all of them; case does not matter.

    Raises:
        InputError: there is no such column, or it holds names and none like this one.
    """
    column, equals, word = text.partition("=")
    if equals and column not in COLUMNS:
        raise InputError(
            f"there is no column '{column}' to filter by", hint=did_you_mean(column, COLUMNS)
        )
    columns, word = ((column,), word.lower()) if equals else (COLUMNS, text.lower())

    def accepts(row: Mapping[str, Any]) -> bool:
        return any(word in str(row[c] or "").lower() for c in columns)

    if equals and column in ("family", "data") and not any(map(accepts, rows)):
        known = {str(row[column]) for row in rows if row[column]}
        raise InputError(f"no recipe has {column}={word}", hint=did_you_mean(word, known))
    return accepts


def _refuse_existing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise OutputError(f"{path} exists already", hint="choose another name, or remove it first")


def _write_new(path: Path, text: str) -> None:
    from aigc_cli.media.files import write_bytes

    _refuse_existing(path)
    write_bytes(path, text.encode())


def _schema_for(path: Path) -> str:
    """Where an editor finds the schema: relative inside a checkout, absolute outside."""
    schema = registry.RECIPES / "schema.json"
    folder = path.resolve().parent
    inside = folder.is_relative_to(registry.RECIPES.parent)
    return Path(os.path.relpath(schema, folder)).as_posix() if inside else schema.as_posix()
