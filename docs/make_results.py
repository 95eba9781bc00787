"""Tables of results, from records that nobody types into a page: `docs/records/TABLE.yaml`.

    python docs/make_results.py           write the tables into their pages
    python docs/make_results.py run ROW   measure a row again and show the difference; with --write
                                          the record becomes what was found

A page has a table between `<!-- results TABLE -->` and `<!-- end -->`, in Chinese with
`<!-- results TABLE zh -->`, where each row has the same line as `zh`. Its file has the `head`,
what all rows have in common (`shared`) and the `rows`. A row is a line of Markdown in which
`{psnr_y:.2f}` stands for a measure of its record, and `{edsr_demo.psnr_y:.2f}` for one of another
record, in whatever table. A record says by which commands its numbers come about, run in
`results/ROW`, which is kept, so that a training that is over is not done again; `read` says where
the JSON that the last one prints has each measure. What is not known of an old row is `unknown`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "records"
BLOCK = re.compile(r"<!-- results (\w+)( zh)? -->\n.*?<!-- end -->", re.DOTALL)
TYPED = re.compile(
    r"(?<![\w.{])\d+[.,]\d+(?![\w.])"  # not 0.2.11, a version
    r"|(?<![\w.{])\d+ ?(?:dB|ms|nats|tokens/s|%)(?!\w)",
    re.ASCII,
)
"""A number as a measurement has it."""

Unknown = Literal["unknown"]


class Quote(BaseModel):
    """A row that has no numbers of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)
    row: str
    zh: str = ""
    """The same in Chinese, where a page in Chinese has the table."""


class Record(Quote):
    """A row, and where its numbers are from."""

    name: str = Field(pattern=r"^[a-z]\w*$")
    recipe: str
    commands: list[str] | Unknown
    read: dict[str, str] = {}
    hardware: str
    seed: int | Unknown
    date: date | Unknown
    commit: str = Field(pattern=r"^(unknown|[0-9a-f]{7,40})$")
    measures: dict[str, int | float | str] | None
    """None: not measured yet, so the row is not shown."""


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    head: str
    zh: str = ""
    foot: str = ""
    """A line below the table for each record, in which `{commit}` and the like are its fields."""
    rows: list[Record | Quote]


class Numbers(Formatter):
    """Rounds as one does by hand: 0.3075 to 0.308, whatever is nearest to it in binary."""

    def format_field(self, value: Any, format_spec: str) -> str:
        exact = isinstance(value, float) and format_spec.endswith("f")
        return str(format(Decimal(repr(value)) if exact else value, format_spec))


def tables() -> dict[str, Table]:
    """Every table by its name.

    Raises:
        ValueError: a file is not whole, a name stands twice, or a number is typed into a row.
    """
    found: dict[str, Table] = {}
    for path in sorted(RECORDS.glob("*.yaml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        shared = data.pop("shared", {})
        data["rows"] = [{**shared, **one} if "name" in one else one for one in data["rows"]]
        kinds = [Record if "name" in one else Quote for one in data["rows"]]
        try:
            rows = [kind(**one) for kind, one in zip(kinds, data["rows"], strict=True)]
            found[path.stem] = Table(**{**data, "rows": rows})
        except ValidationError as error:
            raise ValueError(f"{path.name}: {error}") from error
        for one in found[path.stem].rows:
            words = re.sub(r"`[^`]*`|\]\([^)]*\)|\{[^}]*\}", "", f"{one.row} {one.zh}")
            if typed := TYPED.search(words):
                raise ValueError(f"{path.name}: '{typed[0]}' is typed, not a measure: {one.row}")
    names = [one.name for one in in_all(found)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{', '.join(sorted(twice))}: more than one record of this name")
    return found


def in_all(found: dict[str, Table]) -> list[Record]:
    return [one for table in found.values() for one in table.rows if isinstance(one, Record)]


def records() -> dict[str, Record]:
    """All records by the name of their row."""
    return {one.name: one for one in in_all(tables())}


def written(table: Table, known: dict[str, Record], *, zh: bool = False) -> str:
    """A table in Markdown.

    Raises:
        ValueError: a row names a measure that no record has, or has no words in Chinese.
    """
    others = {name: SimpleNamespace(**(one.measures or {})) for name, one in known.items()}
    lines = [f"| {table.zh if zh else table.head} |", "|---" * (table.head.count("|") + 1) + "|"]
    feet = []
    for one in table.rows:
        own: dict[str, Any] = {}
        if isinstance(one, Record):
            if one.measures is None:
                continue
            own = one.measures
            feet.append(table.foot.format(**dict(one)))
        try:
            if zh and not one.zh:
                raise ValueError(f"{one.row}: needs `zh`, the same row in Chinese")
            text = f"| {one.zh if zh else one.row} |"
            line = Numbers().vformat(text, (), {**others, **own})
        except (KeyError, AttributeError) as error:
            raise ValueError(f"{one.row}: no record has this measure: {error}") from error
        lines.append(line)
    lines = [re.sub(r" {2,}\|", " |", line) for line in lines]
    return "\n".join([*lines, "", *feet] if table.foot else lines)


def pages() -> dict[Path, str]:
    """Every page with tables, as it should be."""
    found, known, made = tables(), records(), {}
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]):
        text = path.read_text(encoding="utf-8")
        if BLOCK.search(text):
            made[path] = BLOCK.sub(
                lambda block: "\n".join(
                    (
                        block[0].partition("\n")[0],
                        written(found[block[1]], known, zh=bool(block[2])),
                        "<!-- end -->",
                    )
                ),
                text,
            )
    return made


def measure(record: Record) -> dict[str, Any]:
    """Run the commands of a row, and read its measures from what the last one prints.

    `aigc` and `python` are those that run this file. What `read` does not name is left out.
    """
    if record.commands == "unknown":
        raise SystemExit(f"'{record.name}': its commands are unknown")
    folder = ROOT / "results" / record.name
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env, out = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}, ""
    for command in record.commands:
        print(f"$ {command}", file=sys.stderr, flush=True)
        done = subprocess.run(
            ["bash", "-c", command], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise SystemExit(f"ended with exit code {done.returncode}: {command}")
        out = done.stdout
    if not record.read:
        print(out, end="")
        return {}
    printed = json.loads(out.strip().splitlines()[-1])
    return {name: value_at(printed, where) for name, where in record.read.items()}


def value_at(data: Any, path: str) -> Any:
    """What a path such as `int8.quality.psnr_rgb` leads to; one in quotes stands for itself."""
    if path.startswith("'"):
        return path.strip("'")
    for key in path.split("."):
        data = data[key]
    return data


def compared(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each measure, old and new."""
    lines = []
    for name in {**before, **now}:
        old, new = before.get(name), now.get(name, "not read from what the commands print")
        share = f"  {100 * (new / old - 1):+.1f} %" if old and isinstance(new, (int, float)) else ""
        lines.append(f"{name:16} {old} -> {new}{share}")
    return lines


def keep(name: str, found: dict[str, Any]) -> None:
    """Write what was found into the file of a row's table, with the day and the commit."""
    git = ["git", "-C", Path(__file__).parent, "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip() or "unknown"
    for path in RECORDS.glob("*.yaml"):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for one in data["rows"]:
            if one.get("name") == name:
                one["date"], one["commit"] = datetime.now(UTC).date(), commit
                one["measures"] = {**(one["measures"] or {}), **found}
                text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=float("inf"))
                path.write_text(text, encoding="utf-8")


def main(words: list[str]) -> None:
    again = words[:1] == ["run"]
    if again:
        names = [word for word in words[1:] if not word.startswith("--")]
        known = records()
        if len(names) != 1 or names[0] not in known:
            raise SystemExit(f"which row? one of: {', '.join(known)}")
        record = known[names[0]]
        found = measure(record)
        print("\n".join(compared(record.measures or {}, found)))
        if "--write" in words:
            keep(names[0], found)
    if not again or "--write" in words:
        for path, text in pages().items():
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
