"""Blobs of a folder."""

from typing import Literal

from pydantic import Field

from aigc_cli.recipe.sections import Name, Section


class Config(Section):
    kind: Literal["blobs"]
    """Name of the data kind."""
    path: Name | tuple[Name, ...]
    """Folder or folders of blobs."""
    size: int = Field(16, gt=0)
    """Side of a blob in pixels."""
    tags: tuple[Name, ...] = ()
    """Only blobs with one of these words."""


class Data:
    pass
