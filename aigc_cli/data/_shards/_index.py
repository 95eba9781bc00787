"""The index of shards: what is in index.json."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from aigc_cli.data._paths import INDEX as INDEX
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Section

TABLE = "index.arrow"
MOST = 256 << 20
"""Bytes of an index.json, of a million shards at least; so much of it is read."""
MOST_TABLE = 16 << 30

Count = Annotated[int, Field(ge=0)]
FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=200)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class File(Section):
    """A file beside the index."""

    file: FileName
    """Its name."""
    bytes: Count
    """Its size."""
    sha256: Sha256
    """Its digest, as `sha256sum` says it."""


class ShardFile(File):
    """A tar file."""

    items: int = Field(ge=1)
    """Files in it."""


class Index(Section):
    """All of index.json."""

    format: Literal["aigc-shards"] = "aigc-shards"
    """Says what it is."""
    version: Literal[1] = 1
    """Of this layout."""
    modality: str
    """What the files are, as families say it."""
    source: str
    """Of what the shards were made."""
    items: Count
    """Files in all shards."""
    skipped: dict[str, int] = Field(default_factory=dict)
    """Files of the source that are none of these, by their ending."""
    table: File
    """Where each file lies."""
    shards: tuple[ShardFile, ...]
    """In the order of the table."""


def parse(text: bytes, place: str) -> Index:
    """
    Raises:
        DataError: it is no such index, or one of a later version.
    """
    try:
        index = Index.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "it"
        raise DataError(
            f"{place} is no index of shards: {key}: {first['msg']}",
            hint="make the shards anew with aigc data shard, or copy the index again",
        ) from error
    if sum(shard.items for shard in index.shards) != index.items:
        raise DataError(f"{place}: its shards do not hold {index.items:,} files together")
    return index
