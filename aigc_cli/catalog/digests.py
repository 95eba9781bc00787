"""Holding files against the digests of the catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from aigc_cli.catalog.entry import FileList
from aigc_cli.errors import DataError


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob(path: Path) -> str:
    """Git's digest of a file: SHA-1 of `blob SIZE NUL` and the content."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def git_tree(paths: Mapping[str, Path]) -> str:
    """Git's digest of a folder that holds these plain files and nothing else."""
    rows = (
        b"100644 " + name.encode() + b"\0" + bytes.fromhex(git_blob(path))
        for name, path in sorted(paths.items(), key=lambda item: item[0].encode())
    )
    body = b"".join(rows)
    return hashlib.sha1(b"tree %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


def list_sha256(paths: Mapping[str, Path]) -> str:
    """Digest of the list: `sha256sum FILES | LC_ALL=C sort | sha256sum`, paths as in the keys."""
    lines = sorted(f"{sha256(path)}  {name}\n".encode() for name, path in paths.items())
    return hashlib.sha256(b"".join(lines)).hexdigest()


def verify(files: FileList, found: Mapping[str, Path]) -> None:
    """Raise DataError when the files are too few or their digest is another one.

    `found` has the path at the source of each, and where it lies here.
    """
    if len(found) != files.count:
        raise DataError(
            f"{files.path}: {len(found):,} files, not the {files.count:,} of the catalog"
        )
    if files.tree:
        names = {name.rpartition("/")[2]: path for name, path in found.items()}
        kind, wanted, seen = "git tree", files.tree, git_tree(names)
    elif files.list_sha256:
        kind, wanted, seen = "SHA-256 of the list", files.list_sha256, list_sha256(found)
    elif files.blob:
        kind, wanted, seen = "git blob", files.blob, git_blob(next(iter(found.values())))
    elif files.sha256:
        kind, wanted, seen = "SHA-256", files.sha256, sha256(next(iter(found.values())))
    else:
        return
    if seen != wanted:
        raise DataError(f"{files.path} is not what the catalog knows: {kind} {seen}, not {wanted}")
