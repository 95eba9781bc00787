"""Executes docs/example.ipynb and writes what its cells print and show into it.

    python docs/make_notebook.py

`tests/test_api.py` executes the cells too, and holds what they print against what is kept.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parent / "example.ipynb"


def executed(notebook: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each cell of code with its outputs, in a namespace that they share."""
    space: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            yield cell, outputs_of("".join(cell["source"]), space)


def outputs_of(source: str, space: dict[str, Any]) -> list[dict[str, Any]]:
    """What a cell prints, and the value of its last line where that is an expression."""
    body = ast.parse(source)
    last = body.body.pop() if isinstance(body.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(body, "<cell>", "exec"), space)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), space)
    outputs: list[dict[str, Any]] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(True)})
    if value is not None:
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": None,
                "metadata": {},
                "data": shown(value),
            }
        )
    return outputs


def shown(value: Any) -> dict[str, Any]:
    """As a notebook shows it: an image as PNG, all else as text."""
    if not hasattr(value, "_repr_png_"):
        return {"text/plain": repr(value).splitlines(True)}
    file = io.BytesIO()
    value.save(file, "PNG")
    return {"image/png": base64.b64encode(file.getvalue()).decode()}


def main() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["AIGC_CACHE"] = str(Path(folder) / "cache")
        for cell, outputs in executed(notebook):
            cell["outputs"] = outputs
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    NOTEBOOK.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
