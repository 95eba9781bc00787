"""What the catalog says of a data set: `catalog/data/<name>.yaml`, here and in AIGC_PATH.

Digests come in five kinds, because sources differ in what they publish:

- `sha256` of a file;
- `blob`, git's own digest of a file: SHA-1 of `blob SIZE NUL` and the content;
- `tree`, git's digest of a folder of files;
- `list_sha256` over many files: `sha256sum FILES | LC_ALL=C sort | sha256sum`;
- none at all: then `aigc data get` wants `--accept`, and keeps the digest it found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from pydantic import AfterValidator, Field, ValidationError, model_validator

from aigc_cli import registry
from aigc_cli.errors import InputError, Problem, RecipeError, did_you_mean
from aigc_cli.recipe import strict_yaml
from aigc_cli.recipe.sections import Name, Section

FOLDER = registry.PACKAGE / "catalog" / "data"

Modality = Literal["image", "boxes", "text", "music", "audio", "shape", "table"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Sha1 = Annotated[str, Field(pattern="^[0-9a-f]{40}$")]


def _inside(path: str) -> str:
    if not path or path.startswith("/") or "\\" in path or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no relative path that stays in its folder")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
"""A relative path with `/` that leads nowhere else."""


class FileList(Section):
    """One file of a source, or many that share a pattern and a digest."""

    path: Inside
    """From the source's root. `{a,b}` and `{1..9}` stand for each; in archives `*` is any name
    without `/`, `**/` at the beginning any folders, and `/` at the end all the folder holds.
    """
    count: int = Field(1, gt=0)
    """How many files that is."""
    size: int | None = Field(None, gt=0)
    """Bytes, together."""
    sha256: Sha256 | None = None
    """Digest of the one file."""
    blob: Sha1 | None = None
    """Git's digest of the one file."""
    list_sha256: Sha256 | None = None
    """Digest of the list of digests of many files."""
    tree: Sha1 | None = None
    """Git's digest of the folder."""
    to: Inside | None = None
    """Where the one file goes, when not under its own name."""

    @property
    def is_verified(self) -> bool:
        return any((self.sha256, self.blob, self.list_sha256, self.tree))

    @model_validator(mode="after")
    def _one_digest(self) -> FileList:
        given = [key for key in ("sha256", "blob", "list_sha256", "tree") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are two digests of one thing")
        if self.count > 1 and (self.sha256 or self.blob or self.to):
            raise ValueError("sha256, blob and to are of one file")
        return self


class Source(Section):
    """Files below one address, or one archive of them."""

    base: str = Field("", pattern=r"^(https?://.+/)?$")
    """Address of a folder; the files are fetched one by one."""
    archive: str = Field("", pattern=r"^(https?://.+)?$")
    """Address of a zip or tar, in place of `base`."""
    size: int | None = Field(None, gt=0)
    """Bytes of the archive."""
    sha256: Sha256 | None = None
    """Digest of the archive; not needed when its files have one."""
    rooted: bool = False
    """Whether all of the archive lies in one folder, which counts as its root."""
    strip: str = ""
    """Beginning of every path that is left out here."""
    files: tuple[FileList, ...] = ()
    """What is taken; everything in the archive when not given."""

    @property
    def download(self) -> int:
        """Bytes to fetch, as far as they are known; for an archive those of its files."""
        return self.size or sum(files.size or 0 for files in self.files)

    @property
    def is_measured(self) -> bool:
        """Whether `download` is all of it."""
        return bool(self.size) or (bool(self.files) and all(files.size for files in self.files))

    @property
    def is_verified(self) -> bool:
        return bool(self.sha256) or (bool(self.files) and all(f.is_verified for f in self.files))

    @model_validator(mode="after")
    def _base_or_archive(self) -> Source:
        if bool(self.base) == bool(self.archive):
            raise ValueError("a source has a base or an archive")
        if self.base and (not self.files or self.size or self.sha256 or self.rooted):
            raise ValueError("a base needs files, which have sizes and digests of their own")
        if self.base and any(len(expand(f.path)) != f.count for f in self.files):
            raise ValueError("a path of a base stands for another number of files than count")
        return self

    def address(self, path: str) -> str:
        """Where a file of a base is fetched from."""
        return self.base + quote(path)

    def place(self, files: FileList, path: str) -> str:
        """Where a file goes, relative to the folder of the data set."""
        return files.to or path.removeprefix(self.strip)


class Entry(Section):
    """One data set."""

    title: Name
    """Its name, for people."""
    about: Name
    """What it holds, in a line."""
    modality: Modality
    license: Name
    """SPDX name, or the words of whoever publishes it."""
    restricted: bool
    """Whether the license limits use, so that `--accept` is asked for."""
    citation: Name
    """Paper or page."""
    notes: str = ""
    """What a reader of the files stumbles over."""
    sources: tuple[Source, ...]
    """Where its files come from."""
    prepare: str = Field("", pattern=r"^([a-z0-9_]+)?$")
    """Function of prepare.py that makes what recipes read of what was fetched."""
    layout: tuple[Inside, ...]
    """Files and folders that are there afterwards."""
    parts: dict[Name, Inside] = Field(default_factory=dict)
    """Names of parts and what each is: NAME means the first, NAME/PART each."""

    @property
    def size(self) -> int:
        """Bytes to fetch, as far as they are known."""
        return sum(source.download for source in self.sources)

    @property
    def is_measured(self) -> bool:
        """Whether `size` is all of it."""
        return all(source.is_measured for source in self.sources)

    @property
    def is_verified(self) -> bool:
        """Whether every file has a digest to be held against."""
        return all(source.is_verified for source in self.sources)


def names() -> dict[str, Path]:
    """The file of every entry by name. Raises InputError: two have the same name."""
    roots = [FOLDER, *(user / "catalog" / "data" for user in registry.user_folders())]
    found: dict[str, Path] = {}
    for path in (path for root in roots for path in sorted(root.glob("*.yaml"))):
        if path.stem in found:
            raise InputError(
                f"two data sets are named {path.stem!r}: {found[path.stem]} and {path}"
            )
        found[path.stem] = path
    return found


def load(name: str) -> Entry:
    """The entry of that name.

    Raises:
        InputError: there is none. RecipeError: every mistake of its file.
    """
    known = names()
    if name not in known:
        raise InputError(
            f"there is no data set {name!r}", hint=did_you_mean(name, known, ls="aigc data ls")
        )
    return _read(known[name])


@cache
def _read(path: Path) -> Entry:
    document = strict_yaml.parse(path.read_bytes(), str(path))
    if document.problems:
        raise RecipeError(document.problems)
    try:
        return Entry.model_validate(document.data, strict=False)
    except ValidationError as error:
        raise RecipeError(_problems(error, document, path)) from error


def _problems(error: ValidationError, document: strict_yaml.Document, path: Path) -> list[Problem]:
    """One for each mistake, with the line of the key or list item it is in."""
    found = []
    for item in error.errors(include_url=False):
        place = item["loc"]
        above = (place[:end] for end in range(len(place), 0, -1))
        line = next((document.lines[p] for p in above if p in document.lines), None)
        message = item["msg"].removeprefix("Value error, ")
        key = ".".join(map(str, place)) or None
        found.append(Problem(message, "catalog", str(path), line, key))
    return found


def expand(pattern: str) -> list[str]:
    """The paths that braces stand for, in order.

    >>> expand("{train,val}.{1..2}")
    ['train.1', 'train.2', 'val.1', 'val.2']
    """
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [f"{before}{one}{rest}" for one in _choices(match[1]) for rest in expand(after)]


def _choices(text: str) -> Iterator[str]:
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        width = len(numbers[1]) if numbers[1].startswith("0") else 0
        yield from (f"{n:0{width}d}" for n in range(int(numbers[1]), int(numbers[2]) + 1))
    else:
        yield from text.split(",")
