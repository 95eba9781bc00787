"""Hooks of mkdocs for `make site`: what stands outside docs/ comes along, and links lead there.

The README is the first page. A file of the code that a page links to is copied to `source/`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
TOP = {
    "README.md": "index.md",
    "README.zh-CN.md": "index.zh-CN.md",
    "CONTRIBUTING.md": "contributing.md",
}
OUTSIDE = re.compile(r"\]\(\.\./([^)#]+)")


def on_config(config: Any) -> Any:
    """Headings have the anchors that GitHub gives them, which links within the pages use."""
    config.mdx_configs["toc"]["slugify"] = lambda title, _: re.sub(
        r"[^\w\- ]", "", title.lower()
    ).replace(" ", "-")
    return config


def on_files(files: Any, config: Any) -> Any:
    linked = {
        name
        for file in files.documentation_pages()
        for name in OUTSIDE.findall(file.content_string)
    }
    for name in sorted(linked - TOP.keys()):
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, f"source/{name}.txt", content=text))
    for name, page in TOP.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri in TOP.values():
        for name, moved in TOP.items():
            markdown = markdown.replace(f"]({name}", f"]({moved}")
        return markdown.replace("](docs/", "](")
    return OUTSIDE.sub(lambda link: f"]({TOP.get(link[1], f'source/{link[1]}.txt')}", markdown)
