"""What a user agrees to: licenses that limit use, and files that nobody publishes a digest of.

Their digests are pinned in the data folder when they are first accepted, and hold from then on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from aigc_cli.catalog.entry import Entry, Source, expand
from aigc_cli.catalog.find import data_folder
from aigc_cli.errors import DataError, InputError

PINNED = ".pinned.json"


def require(name: str, entry: Entry, pins: Mapping[str, str]) -> None:
    """Raise InputError when the entry has something that the user must accept."""
    addresses = (address for source in entry.sources for address in unverified(source))
    unknown = next((address for address in addresses if address not in pins), None)
    blind = f"nobody publishes a digest of {unknown}, so a changed file would not be noticed"
    if entry.restricted:
        raise InputError(
            f"data set {name!r} is not for every use: {entry.license}"
            + (f"; and {blind}" if unknown else ""),
            hint=f"aigc data get {name} --accept, if you keep to that",
            code="license",
        )
    if unknown:
        raise InputError(
            blind,
            hint=f"aigc data get {name} --accept takes what comes and pins its digest",
            code="digest",
        )


def unverified(source: Source) -> list[str]:
    """Addresses of which no digest is known."""
    if source.is_verified:
        return []
    if source.archive:
        return [source.archive]
    return [source.address(p) for f in source.files if not f.is_verified for p in expand(f.path)]


def pins() -> dict[str, str]:
    """SHA-256 by address of what was accepted without a digest."""
    try:
        found = json.loads((data_folder() / PINNED).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def pin(found: Mapping[str, str]) -> None:
    """Keep these digests."""
    if found:
        path = data_folder() / PINNED
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{PINNED}.{os.getpid()}")
        new.write_text(json.dumps({**pins(), **found}, indent=1), "utf-8")
        os.replace(new, path)


def hold_to_pin(address: str, seen: str, pinned: Mapping[str, str]) -> None:
    """Raise DataError when the digest of what came is not the one that was pinned."""
    if pinned.get(address, seen) != seen:
        raise DataError(
            f"{address} is not what it was when its digest was pinned: SHA-256 {seen}, not "
            f"{pinned[address]}",
            hint=f"if you trust the new file, remove its line from {str(data_folder() / PINNED)!r}",
        )
