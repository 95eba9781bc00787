"""Blobs of a folder."""

from typing import Literal

from pydantic import Field

from aigc_cli.data._data import Prepared
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.specs import SPECS


class Config(Section):
    kind: Literal["blobs"]
    """Name of the data kind."""
    path: Name | tuple[Name, ...]
    """Folder or folders of blobs."""
    size: int = Field(16, gt=0)
    """Side of a blob in pixels."""
    tags: tuple[Name, ...] = ()
    """Only blobs with one of these words."""


class Data(Prepared):
    def __init__(self, config, *, seed, bases=(), spec=None):
        self.report = {}
        self.spec = SPECS["blobs"]()  # the family defines it
        self.train = self.val = range(config.size)


def suggest(config, *, bases=()):
    """The number of blobs is their size."""
    files = [file for base in bases for file in (base / config.path).glob("*.blob")]
    if not files:
        raise DataError(f"data.path: no blobs in '{config.path}'")
    return {"size": (len(files), f"There are {len(files)} blobs.")}
