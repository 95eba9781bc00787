"""A folder of links to what `pip install aigc-cli` brings, and to nothing of the extras.

    python tests/core_packages.py FOLDER

FOLDER holds the package as installed there by `pip install --no-deps --target`. With it as
PYTHONPATH, `python -S -m aigc_cli` runs as in an environment in which nothing else was installed.
"""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def core(folder: str) -> set[str]:
    """What the package in the folder requires without extras, and what that requires in turn."""
    (own,) = metadata.distributions(path=[folder])
    waiting = [(text, "") for text in own.requires or ()]
    found: set[tuple[str, str]] = set()
    while waiting:
        text, asked = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": asked}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in found:
                found.add((name, extra))
                waiting += [(each, extra) for each in metadata.requires(name) or ()]
    return {name for name, _ in found}


def link(folder: Path, name: str) -> None:
    """Links to all that a distribution has put at the top of site-packages."""
    distribution = metadata.distribution(name)
    for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
        place, there = folder / top, Path(str(distribution.locate_file(top)))
        if there.exists() and not place.exists():
            place.symlink_to(there)


if __name__ == "__main__":
    for each in sorted(core(sys.argv[1])):
        link(Path(sys.argv[1]), each)
