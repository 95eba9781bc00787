"""`aigc data shard`: a source of data as shards, whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aigc_cli.catalog.find import size_text
from aigc_cli.data._shards import Index, ShardWriter
from aigc_cli.errors import DataError, InputError, OutputError
from aigc_cli.media.files import write_error
from aigc_cli.modalities import find_modality, recognized

LEAST = 1000  # bytes of a shard
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30}
LISTED = 20  # bad files that are printed; JSON has all


def size_of(text: str) -> int:
    """Bytes.

    >>> size_of("64MB"), size_of("1.5 GiB")
    (64000000, 1610612736)

    Raises:
        InputError: it is no size, or too small a one.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMG]?I?B)?", text.strip(), re.IGNORECASE)
    unit = (match[2] or "").upper().removesuffix("B") if match else ""
    size = float(match[1]) * UNITS[unit] if match else 0
    if size < LEAST:
        raise InputError(f"--size: {text!r} is no size of a shard", hint="such as 64MB or 1GB")
    return int(size)


def shard(source: str, out: Path, size: int, tick: Callable[[int], None]) -> dict[str, Any]:
    """Store what a source holds in shards of at most `size` bytes in the folder `out`; `tick` is
    told of bytes that were stored.

    Raises:
        InputError: nothing is known that the source holds. DataError: none of it can be used.
        OutputError: there is something in `out`, or it cannot be written.
    """
    modality = recognized(source)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not empty", hint="choose another folder with --out")
    stored = modality.stored(source)
    with _stage(out) as folder, ShardWriter(folder, size) as writer:
        for item in stored.items:
            writer.add(item)
            tick(item.size)
        if not len(writer):
            first = next(iter(stored.bad.items()), ("", ""))
            raise DataError(f"{source}: no file can be used: {': '.join(first)}")
        index = writer.finish(modality.name, source, stored.skipped)
    return {"out": str(out), **_facts(index), "bad": dict(stored.bad)}


def _facts(index: Index) -> dict[str, Any]:
    return {
        "modality": index.modality, "items": index.items, "shards": len(index.shards),
        "bytes": sum(shard.bytes for shard in index.shards) + index.table.bytes,
        "skipped": index.skipped,
    }  # fmt: skip


def told(facts: dict[str, Any]) -> str:
    """The facts for people."""
    title, shards = find_modality(facts["modality"]).title, facts["shards"]
    lines = [
        f"{title}: {facts['items']:,}",
        f"shards: {shards:,}, {size_text(facts['bytes'])} in {facts['out']}",
    ]
    if facts["skipped"]:
        skipped = ", ".join(f"{name} {count:,}" for name, count in facts["skipped"].items())
        lines.append(f"skipped: {skipped}")
    lines += [f"unusable: {n}: {why}" for n, why in list(facts["bad"].items())[:LISTED]]
    if len(facts["bad"]) > LISTED:
        lines.append(f"          and {len(facts['bad']) - LISTED:,} more")
    return "\n".join(lines)


@contextmanager
def _stage(out: Path) -> Iterator[Path]:
    """A folder beside `out` that one process fills; at the end it becomes `out`, and after a
    failure it is gone. What a killed process left is removed by the next.
    """
    stage = out.absolute().with_name(f".{out.absolute().name}.part")
    ready = stage / "ready"
    try:
        stage.mkdir(parents=True, exist_ok=True)
        with FileLock(stage / "lock", timeout=0):
            shutil.rmtree(ready, ignore_errors=True)
            ready.mkdir()
            try:
                yield ready
                with suppress(FileNotFoundError):
                    out.rmdir()
                os.replace(ready, out)
            finally:
                shutil.rmtree(ready, ignore_errors=True)
    except Timeout as error:
        raise OutputError(f"another process is making shards in {out}") from error
    except OSError as error:
        size = sum(file.stat().st_size for file in ready.glob("*")) if ready.is_dir() else 0
        shutil.rmtree(stage, ignore_errors=True)
        raise write_error(error, out, size) from error
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    shutil.rmtree(stage, ignore_errors=True)
