"""The web site of the documentation: every page has its place, and nothing comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
FROM_TOP = {"index.md", "index.zh-CN.md", "contributing.md"}  # docs/make_site.py


def places(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for inner in nav.values() if isinstance(nav, dict) else nav:
            yield from places(inner)


def test_every_page_is_in_the_navigation_once() -> None:
    pages = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert sorted(places(SITE["nav"])) == sorted([*pages, *FROM_TOP])


def test_nothing_is_fetched_from_elsewhere() -> None:
    assert SITE["theme"]["font"] is False
    assert "http" not in str({key: SITE.get(key) for key in SITE if key.startswith("extra")})


def test_what_the_site_needs_is_pinned() -> None:
    lines = (ROOT / "docs/requirements.txt").read_text().splitlines()
    assert all("==" in line for line in lines if not line.startswith("#"))


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True)
    build(config)
    first = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="images.html"' in first
    assert 'src="https://' not in first
