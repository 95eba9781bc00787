"""Tables of results, from records that nobody types: `docs/records/ROW.json`.

    python docs/make_results.py           write the tables into their pages
    python docs/make_results.py run ROW   measure a row again and show the difference; with --write
                                          the record becomes what was found

A record says by which commands its numbers come about; the last one prints JSON, in which `read`
says where each measure is. Commands run in `results/ROW`, which is kept, so that a training that is
over is not done again.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "records"
KEYS = {
    "page",
    "table",
    "title",
    "commands",
    "read",
    "seed",
    "hardware",
    "date",
    "commit",
    "measures",
}

TABLES: dict[str, list[tuple[str, str]]] = {
    "onnx": [
        ("run", "{title}"),
        ("bytes, fp32 and int8", "{bytes:,}, {int8_bytes:,}"),
        ("largest difference from PyTorch", "{largest:.1e}"),
        ("quality, fp32 and int8", "{quality:.4f}, {int8_quality:.4f} {unit}"),
        ("milliseconds: PyTorch, fp32", "{pytorch:.2f}, {fp32:.2f}"),
        ("PyTorch, int8", "{int8_pytorch:.2f}, {int8:.2f}"),
    ],
    "serve": [
        ("run", "{title}"),
        ("requests a second, alone and in batches", "{single_rate:.2f}, {batch_rate:.2f}"),
        ("p95, seconds", "{single_p95:.2f}, {batch_p95:.2f}"),
        ("one request with nobody else, seconds", "{alone:.2f}"),
    ],
}
"""Columns of each table: the head, and what a record's measures make of it."""


def records() -> dict[str, dict[str, Any]]:
    """All records by the name of their row.

    Raises:
        ValueError: one is not whole.
    """
    found = {}
    for path in sorted(RECORDS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.keys() != KEYS or record["table"] not in TABLES:
            raise ValueError(f"{path.name}: needs {', '.join(sorted(KEYS))}, of a known table")
        found[path.stem] = record
    return found


def table(name: str) -> str:
    """A table in Markdown, and below it where its numbers are from."""
    rows = {row: one for row, one in records().items() if one["table"] == name and one["measures"]}
    columns = TABLES[name]
    lines = [f"| {' | '.join(head for head, _ in columns)} |", "|---" * len(columns) + "|"]
    for one in rows.values():
        facts = {"title": one["title"], **one["measures"]}
        lines.append(f"| {' | '.join(cell.format(**facts) for _, cell in columns)} |")
    lines += [
        "",
        *(
            f"{row}: {one['hardware']}, {one['date']}, commit {one['commit']}; "
            f"again by `make results ROW={row}`."
            for row, one in rows.items()
        ),
    ]
    return "\n".join(lines)


def pages() -> dict[Path, str]:
    """Every page with tables, as it should be."""
    found = {}
    for name in sorted({record["page"] for record in records().values()}):
        text = (ROOT / name).read_text(encoding="utf-8")
        found[ROOT / name] = BLOCK.sub(
            lambda block: f"<!-- results {block[1]} -->\n{table(block[1])}\n<!-- end -->", text
        )
    return found


BLOCK = re.compile(r"<!-- results (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def measure(row: str) -> dict[str, Any]:
    """Run the commands of a row, and read its measures from what the last one prints."""
    record = records()[row]
    folder = ROOT / "results" / row
    folder.mkdir(parents=True, exist_ok=True)
    env, out = {**os.environ, "PYTHONPATH": str(ROOT)}, ""
    for command in record["commands"]:
        print(f"$ {command}", file=sys.stderr, flush=True)
        words = shlex.split(command)
        program = {"aigc": [sys.executable, "-m", "aigc_cli"], "python": [sys.executable]}
        words = [*program.get(words[0], words[:1]), *words[1:]]
        done = subprocess.run(
            words, cwd=folder, env=env, check=True, stdout=subprocess.PIPE, text=True
        )
        out = done.stdout
    printed = json.loads(out.strip().splitlines()[-1])
    return {name: value_at(printed, path) for name, path in record["read"].items()}


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
    for name, new in now.items():
        old = before.get(name)
        share = f"  {100 * (new / old - 1):+.1f} %" if old and isinstance(new, (int, float)) else ""
        lines.append(f"{name:16} {old} -> {new}{share}")
    return lines


def main(words: list[str]) -> None:
    if words[:1] == ["run"]:
        (row,) = [word for word in words[1:] if not word.startswith("--")]
        if row not in records():
            raise SystemExit(f"there is no row '{row}'; choose from: {', '.join(records())}")
        record = records()[row]
        found = measure(row)
        print("\n".join(compared(record["measures"], found)))
        if "--write" in words:
            git = subprocess.run(
                ["git", "rev-parse", "--short", "HEAD"],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            record |= {
                "measures": found,
                "date": datetime.now(UTC).date().isoformat(),
                "commit": git.stdout.strip(),
            }
            (RECORDS / f"{row}.json").write_text(
                json.dumps(record, indent=2, ensure_ascii=False) + "\n"
            )
    if words[:1] != ["run"] or "--write" in words:
        for path, text in pages().items():
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    main(sys.argv[1:])
