"""What is installed: pins that something asks for, and a wheel with types and recipes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEXTS = (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
DIRECT = [Requirement(text) for texts in TEXTS for text in texts]
PINNED = [
    canonicalize_name(line.partition("==")[0])
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
]


def wanted() -> set[str]:
    """Every distribution that pyproject.toml asks for, extras included, and what those ask for."""
    waiting = [(canonicalize_name(r.name), e) for r in DIRECT for e in ("", *r.extras)]
    found: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            texts = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # of another system
            continue
        for requirement in map(Requirement, texts):
            marker = requirement.marker
            if marker is None or "platform" in str(marker) or marker.evaluate({"extra": extra}):
                own = canonicalize_name(requirement.name)
                if extra or marker is None or "extra" not in str(marker):
                    waiting += [(own, part) for part in ("", *requirement.extras)]
    return {name for name, _ in found}


def test_constraints_pin_only_what_is_asked_for() -> None:
    assert sorted(set(PINNED) - wanted()) == []


def test_constraints_pin_every_direct_requirement() -> None:
    assert sorted({canonicalize_name(r.name) for r in DIRECT} - set(PINNED)) == []


@pytest.mark.slow
def test_a_wheel_has_types_recipes_and_the_command(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(tmp_path), "."]
    subprocess.run(build, cwd=ROOT, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (about,) = [n for n in names if n.endswith("entry_points.txt")]
        assert re.search(r"^aigc *= *aigc_cli\.cli:main$", archive.read(about).decode(), re.M)
    assert {"aigc_cli/py.typed", "aigc_cli/_recipes/schema.json"} <= set(names)
    assert any(name.startswith("aigc_cli/_recipes/image/") for name in names)
