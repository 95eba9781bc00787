"""Writes what the documentation repeats from the code: docs/cli.md and docs/keys.md.

    python docs/make_cli.py            or: make docs

`tests/test_docs.py` fails while the files differ from what this would write.
"""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

DOCS = Path(__file__).resolve().parent
HEAD = """\
# Commands

Written by `make docs` from the commands' own `--help`. `--json`, `--quiet` and `--debug` may stand
anywhere on the command line. Results go to stdout, everything else to stderr; the exit codes are in
the [README](../README.md).
"""
KEYS = """\
# Every key of a recipe

Written by `make docs` from the code; [recipes.md](recipes.md) says how recipes work, and
`aigc recipe show RECIPE --doc` prints the keys of one recipe, your own families included.
"""
PLAIN = {
    "COLUMNS": "100",
    "TERMINAL_WIDTH": "100",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "_TYPER_FORCE_DISABLE_TERMINAL": "1",
}


def main() -> None:
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(DOCS.parent))


def pages() -> dict[Path, str]:
    """The text of every page that is written here."""
    return {DOCS / "cli.md": cli_page(), DOCS / "keys.md": f"{KEYS}\n{key_tables()}"}


def cli_page() -> str:
    """Every command's help, groups before their members."""
    from aigc_cli.cli._tree import commands

    sections = [HEAD]
    for words, _ in commands():
        title = " ".join(("aigc", *words))
        sections.append(f"## {title}\n\n```text\n{help_of(words)}\n```\n")
    return "\n".join(sections)


def help_of(words: tuple[str, ...]) -> str:
    from aigc_cli.cli import invoke

    with patch.dict(os.environ, PLAIN), redirect_stdout(io.StringIO()) as text:
        assert invoke([*words, "--help"]) == 0
    return "\n".join(map(str.rstrip, text.getvalue().strip().splitlines()))


def key_tables() -> str:
    """One table for the keys every recipe has, one for each data kind and each family shipped."""
    from aigc_cli.recipe.load import Recipe
    from aigc_cli.recipe.sections import Evaluate, Section, Trainer
    from aigc_cli.registry import PACKAGE, data_kinds, families, load_data_kind, load_family

    parts: list[tuple[str, str, type[Section]]] = [
        ("Top level", "", Recipe),
        ("`trainer`", "trainer.", Trainer),
        ("`evaluate`", "evaluate.", Evaluate),
    ]
    for name, path in data_kinds().items():
        if path.is_relative_to(PACKAGE):
            parts.append((f"`data` with `kind: {name}`", "data.", load_data_kind(name).Config))
    for name, family in families().items():
        if family.path.is_relative_to(PACKAGE):
            module = load_family(name)
            parts.append((f"`model` with `family: {name}`", "model.", module.Config))
            parts.append((f"`sample` with `family: {name}`", "sample.", module.Options))
    return "\n".join(f"## {title}\n\n{table(model, prefix)}" for title, prefix, model in parts)


def table(model: type, prefix: str) -> str:
    from aigc_cli.recipe.keys import keys

    lines = ["| key | default | value | meaning |", "|---|---|---|---|"]
    top = not prefix
    for key in keys(model, prefix):
        if top and "." in key.key:
            continue  # sections have tables of their own
        needed = key.default is None or key.key == "data.kind"  # which chooses the table
        default = "required" if needed else f"`{key.default}`"
        limits = key.limits.replace("not empty", "").strip(", ")
        value = f"{key.expected}; {limits}" if limits else key.expected
        cells = (f"`{key.key}`", default, value, key.doc)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
