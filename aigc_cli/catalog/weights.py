"""Weights that others have trained: what there is, and where those that were got lie.

One file for each in `catalog/models/<name>.yaml`. `aigc model get NAME` (pretrained.py) turns the
published file into a checkpoint of ours, `<home>/<name>/model.ckpt`, or, for an encoder of
sentences, into a folder; from then on NAME is what a run's name is: `aigc sample NAME`,
`init_from: NAME`, `features: NAME`, `--extractor NAME`. Without torch, so that listing is instant.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from aigc_cli.errors import InputError, MissingError, did_you_mean
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.recipe.strict_yaml import parse
from aigc_cli.registry import PACKAGE

CATALOG = PACKAGE / "catalog" / "models"
ALIASES = {"imagenet": "efficientnet_lite0"}
"""Names of a task, and the weights that serve it."""


class Entry(Section):
    """One model: what it is, where its file is published, and what becomes of it."""

    title: Name
    """What it is."""
    use: Name
    """What it is for."""
    license: Name
    """SPDX name."""
    citation: Name
    """Paper and source."""
    package: Name
    """`name==version` of the package that ships the file."""
    file: Name
    """Path of the file inside the package."""
    sha256: str = Field(pattern="[0-9a-f]{64}")
    """Of that file."""
    size: int = Field(gt=0)
    """Bytes of that file."""
    convert: Name
    """How it becomes ours: a function of run/convert.py."""

    @property
    def cost(self) -> str:
        """Size and license, for whoever thinks of getting it."""
        return f"{self.size / 1e6:,.0f} MB, {self.license}"


def models() -> Iterator[tuple[str, Entry]]:
    """Every entry of the catalogue by name."""
    for path in sorted(CATALOG.glob("*.yaml")):
        yield path.stem, _read(path)


def find_entry(name: str) -> tuple[str, Entry]:
    """The entry of a name or of an alias.

    Raises:
        InputError: there is none.
    """
    name = ALIASES.get(name, name)
    if not is_model(name):
        known = [path.stem for path in CATALOG.glob("*.yaml")]
        hint = did_you_mean(name, known, ls="aigc model ls")
        if "/" in name or Path(name).exists():
            source = name if Path(name).exists() else f"hub:{name}"
            hint = (
                f"aigc model import {source} --out model.ckpt takes a file, a folder or the hub's"
            )
        raise InputError(f"there is no model '{name}'", hint=hint)
    return name, _read(CATALOG / f"{name}.yaml")


def _read(path: Path) -> Entry:
    document = parse(path.read_bytes(), str(path))
    assert not document.problems, document.problems
    return Entry.model_validate(document.data)


def is_model(text: str) -> bool:
    """Whether this is the name of a model of the catalogue."""
    text = ALIASES.get(text, text)
    return text.isidentifier() and (CATALOG / f"{text}.yaml").is_file()


def models_home() -> Path:
    """$AIGC_MODELS, or aigc/models in $XDG_DATA_HOME, or in ~/.local/share."""
    if chosen := os.environ.get("AIGC_MODELS"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "aigc" / "models"


def find_model(text: str) -> Path:
    """The checkpoint or folder of a model of the catalogue that was got before.

    Raises:
        InputError: there is no such model. MissingError: it was not got yet.
    """
    name, entry = find_entry(text)
    for path in (models_home() / name / "model.ckpt", models_home() / name / "model"):
        if path.exists():
            return path
    raise MissingError(
        f"the weights of {name} are not here: {entry.title} ({entry.cost})",
        hint=f"aigc model get {name}",
    )
