"""`aigc data`: get data by name, and look at data before training on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from aigc_cli.cli._output import Debug, Json, Output, Overrides, Quiet
from aigc_cli.cli._progress import transferring
from aigc_cli.cli._table import records, table
from aigc_cli.errors import InputError

app = typer.Typer(help="List, download, inspect and check data.", rich_markup_mode=None)

FULL = (
    "name", "title", "about", "modality", "size", "license", "restricted", "here", "path", "parts",
    "recipes", "citation", "notes",
)  # fmt: skip
SHORT = ("name", "title", "size", "license", "here")

Data = Annotated[
    str,
    typer.Argument(
        metavar="PATH|RECIPE",
        help="A folder, zip, list.txt, image, hf:NAME, builtin:NAME or a data set; or a recipe.",
        show_default=False,
    ),
]


@app.command()
def show(
    data: Data,
    overrides: Overrides = None,
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            min=1,
            help="Number of images on the sheet (16) or texts to print (3).",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Write a contact sheet of images to this file.", show_default=False
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show counts, sizes and classes; for a recipe also the contents of a batch."""
    from aigc_cli.run.inputs import check_data

    check_data(data, overrides or ())
    from aigc_cli.run.data import show as describe
    from aigc_cli.run.data import show_text

    facts = describe(data, overrides or (), n=n, sheet=out)
    Output(json, quiet).result(facts, show_text(facts))


@app.command()
def check(
    data: Data,
    overrides: Overrides = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Report unusable files (exit code 2); warn of duplicates, overlap, small classes."""
    from aigc_cli.run.inputs import check_data

    check_data(data, overrides or ())
    from aigc_cli.run.data import check_text, inspect

    findings = inspect(data, overrides or ())
    output = Output(json, quiet)
    if findings.bad:
        output.fail(findings.bad, findings.as_dict(), check_text(findings))
    output.result(findings.as_dict(), check_text(findings))


def _set_names(incomplete: str) -> list[str]:
    from aigc_cli.catalog.entry import names

    return [name for name in names() if name.startswith(incomplete)]


@app.command()
def ls(
    filters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILTER]...",
            help="Words to look for in a set's name, title, license and recipes.",
            show_default=False,
        ),
    ] = None,
    modality: Annotated[
        str | None,
        typer.Option(help="image, text, music, audio, shape or table.", show_default=False),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Show every column, in full.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the data sets that recipes can name: built-in ones, and those `get` fetches."""
    rows = [
        row
        for row in _rows(_known_modality(modality))
        if all(_has(row, word.lower()) for word in filters or ())
    ]
    text = records(rows, FULL) if full else table(rows, SHORT, wrap=False, drop=("license",))
    output = Output(json, quiet)
    output.result({"sets": rows}, text if rows else None)
    if not rows:
        output.log("no data set matches all of the filters")
    elif sys.stdout.isatty() and not full:
        output.log("\nAll columns: aigc data ls NAME --full      One set: aigc data get NAME")


@app.command()
def get(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="Data sets of `aigc data ls`.",
            autocompletion=_set_names,
            show_default=False,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the set's own folder; else AIGC_DATA or the user's data folder.",
            show_default=False,
        ),
    ] = None,
    mirror: Annotated[
        str,
        typer.Option(
            metavar="DIR|URL",
            help="Take files from here, where each lies under host and path of its address.",
            show_default=False,
        ),
    ] = "",
    accept: Annotated[
        bool,
        typer.Option(
            "--accept",
            help="Keep to a license that limits use; take files nobody publishes a digest of.",
        ),
    ] = False,
    originals: Annotated[
        bool, typer.Option("--originals", help="Make --to a mirror of the files as published.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fetch data sets, verify them, and put them where recipes find them."""
    from aigc_cli.catalog.builtin import PREFIX
    from aigc_cli.catalog.entry import load
    from aigc_cli.catalog.get import copy_builtin
    from aigc_cli.catalog.get import get as fetch_set

    output = Output(json, quiet)
    rows: list[dict[str, Any]] = []
    entries = {name: load(name) for name in names if not name.startswith(PREFIX)}
    for name in names:
        if name not in entries:
            if to is None:
                raise InputError(
                    f"{name} is inside the package: recipes name it as it is",
                    hint=f"aigc data get {name} --to DIR copies its files",
                )
            rows.append({"name": name, "path": str(copy_builtin(name, to))})
            continue
        entry = entries[name]
        output.log(f"{name}: {entry.title}. License: {entry.license}")
        with transferring(name, entry.size, json=json, quiet=quiet) as tick:
            got = fetch_set(
                name, to=to, mirror=mirror, accept=accept, originals=originals, tick=tick
            )
        for address, digest in got.pinned.items():
            output.log(f"pinned: SHA-256 {digest} of {address}")
        rows.append({"name": name, "path": str(got.path), "license": got.license,
                     "was_there": got.was_there, "pinned": got.pinned})  # fmt: skip
    output.result({"sets": rows}, "\n".join(row["path"] for row in rows))


@app.command()
def shard(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder, zip, list.txt, file, hf:NAME, builtin:NAME or a data set.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="New or empty folder.", show_default=False)
    ],
    size: Annotated[str, typer.Option(help="Largest shard, such as 500kB or 1GB.")] = "64MB",
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Store data in tar files of one size, which train from any disk, server or bucket."""
    from aigc_cli.run.inputs import require_paths

    require_paths("DATA", data)
    from aigc_cli.run.shard import shard as store
    from aigc_cli.run.shard import size_of, told

    limit = size_of(size)
    with transferring("shards", None, json=json, quiet=quiet) as tick:
        facts = store(data, out, limit, tick)
    Output(json, quiet).result(facts, told(facts))


def _known_modality(modality: str | None) -> str | None:
    from typing import get_args

    from aigc_cli.catalog.entry import Modality
    from aigc_cli.errors import did_you_mean

    known = get_args(Modality)
    if modality is not None and modality not in known:
        raise InputError(f"unknown modality {modality!r}", hint=did_you_mean(modality, known))
    return modality


def _rows(modality: str | None) -> Iterator[dict[str, Any]]:
    """What `ls` shows of each set of one modality, or of all."""
    from aigc_cli.catalog.builtin import PREFIX, builtins
    from aigc_cli.catalog.entry import load
    from aigc_cli.catalog.entry import names as entry_names
    from aigc_cli.catalog.find import data_folder, shown_size
    from aigc_cli.catalog.uses import recipes_by_set

    used = recipes_by_set()
    for name, builtin in builtins().items():
        if modality in (None, builtin.modality):
            full = f"{PREFIX}{name}"
            yield {
                "name": full, "title": builtin.title, "modality": builtin.modality,
                "size": "-", "license": builtin.license, "restricted": False, "here": "built in",
                "parts": ", ".join(builtin.parts), "recipes": ", ".join(used.get(full, ())),
            }  # fmt: skip
    for name in entry_names():
        entry = load(name)
        if modality in (None, entry.modality):
            path = data_folder() / name
            yield {
                "name": name, "title": entry.title, "about": entry.about,
                "modality": entry.modality, "size": shown_size(entry), "license": entry.license,
                "restricted": entry.restricted, "here": "yes" if path.is_dir() else "no",
                "path": str(path), "parts": ", ".join(entry.parts),
                "recipes": ", ".join(used.get(name, ())), "citation": entry.citation,
                "notes": entry.notes,
            }  # fmt: skip


def _has(row: dict[str, Any], word: str) -> bool:
    return any(word in str(row.get(c, "")).lower() for c in ("name", "title", "license", "recipes"))
