"""What `aigc data` says about texts: counts in tokens, lengths, what is cut, and a few examples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from aigc_cli.data._names import is_hidden
from aigc_cli.data._shards import Item
from aigc_cli.data._text_files import TextFile, open_texts
from aigc_cli.errors import DataError, Problem
from aigc_cli.modalities._modality import Stored
from aigc_cli.text.tokenizer import Tokenizer

SHOWN = 600  # characters of an example that are printed; JSON has all
EXAMPLES = 3
LISTED = 20  # keys of objects
MANY = 0.05  # of the tokens that are unknown, or of the items that are cut, are worth a warning


def recognizes(source: str, endings: frozenset[str]) -> bool:
    """Whether a source of data is texts: a file of UTF-8, or a folder that holds some."""
    path = Path(source)
    if path.is_dir():
        files = (file for file in path.rglob("*") if Path(file.name.lower()).suffix in endings)
        return any(not any(map(is_hidden, file.relative_to(path).parts)) for file in files)
    return path.is_file() and (path.suffix.lower() in endings or _is_utf8(path))


def _is_utf8(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(1 << 16)
    try:
        start[:-4].decode()
    except UnicodeDecodeError:
        return False
    return bool(start) and b"\0" not in start


def stored(source: str) -> Stored:
    """As `Modality.stored`, with the digest by which prepared tokens are found again.

    Raises:
        DataError: a file is no text, or not what its name says: named as in training.
    """
    texts = open_texts(source)
    parts = [part for part in texts.parts if isinstance(part, TextFile)]
    if len(parts) < len(texts.parts):
        raise DataError(f"{source!r}: rows of a hub's data set are no files to be stored")

    def items() -> Iterator[Item]:
        for part in parts:
            for _ in part.records():
                pass
            content = part.path if isinstance(part.path, Path) else part.path.open().read()
            yield Item(part.name, content, {"blake2b": part.digest.partition(" ")[2]})

    return Stored(items(), len(parts), {}, {})


def source_part(source: str) -> dict[str, Any]:
    """What can be counted before there is a tokenizer: a single pass, one digest a text."""
    texts = open_texts(source)
    counts = {"records": 0, "characters": 0, "bytes": 0, "blank": 0, "duplicates": 0, "longest": 0}
    keys: Counter[str] = Counter()
    seen: set[bytes] = set()
    for _, record in texts.records():
        text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
        keys.update(list(record) if isinstance(record, dict) else ())
        data = text.encode()
        mark = blake2b(data, digest_size=8).digest()
        blank = not text.strip()
        counts["records"] += 1
        counts["characters"] += len(text)
        counts["bytes"] += len(data)
        counts["blank"] += blank
        counts["duplicates"] += mark in seen and not blank
        counts["longest"] = max(counts["longest"], len(text))
        seen.add(mark)
    return {"source": source, **counts, "keys": dict(keys.most_common(LISTED))}


def first(source: str, n: int | None) -> list[str]:
    """The first texts of a source that are not blank."""
    records = (record for _, record in open_texts(source).records())
    shown = (r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records)
    return list(islice((text for text in shown if text.strip()), EXAMPLES if n is None else n))


def source_warnings(key: str, part: Mapping[str, Any]) -> Iterator[Problem]:
    if part["records"] == part["blank"]:
        yield Problem("there is no text in it", code="data.empty", key=key)
    if part["duplicates"] > MANY * part["records"]:
        message = f"{part['duplicates']:,} of {part['records']:,} texts stand there before"
        yield Problem(message, code="data.duplicates", key=key)


def text_parts(data: Any) -> dict[str, Any]:
    return {key: report.as_dict() for key, report in data.report.items()}


def plain_spec(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with size and digest in place of each tokenizer."""
    return {key: _named(value) if "tokenizer" in key else value for key, value in spec.items()}


def _named(text: str) -> str:
    tokenizer = Tokenizer.from_json(text)
    return f"{tokenizer.digest[:12]} of {tokenizer.vocab_size:,} tokens"


def part_lines(part: Mapping[str, Any]) -> Iterator[str]:
    """What is in a part, for people."""
    if "records" in part:
        blank = f", {part['blank']:,} blank" if part["blank"] else ""
        twice = f", {part['duplicates']:,} repeated" if part["duplicates"] else ""
        yield f"{'texts':<17} {part['records']:,}{blank}{twice}"
        yield f"{'characters':<17} {part['characters']:,}, {part['bytes']:,} bytes"
        yield f"{'longest':<17} {part['longest']:,} characters"
        if part["keys"]:
            keys = ", ".join(f"{k} {n:,}" for k, n in part["keys"].items())
            yield f"{'keys':<17} {keys if len(keys) <= SHOWN else f'{keys[:SHOWN]}…'}"
        return
    yield f"{part['what']:<17} {part['items']:,}"
    share = part["unknown"] / max(part["tokens"], 1)
    unknown = f", {part['unknown']:,} unknown ({share:.2%})" if part["unknown"] else ""
    yield f"{'tokens':<17} {part['tokens']:,} for {part['bytes']:,} bytes{unknown}"
    for side, (least, half, ninety, most, longest) in part["lengths"].items():
        name = "length" if side == "tokens" else side
        yield (
            f"{name:<17} {least:,} to {longest:,}, half at most {half:,}, "
            f"90 % {ninety:,}, 99 % {most:,}"
        )
    for name, count in part["counts"].items():
        if count or name == "rows":
            yield f"{name:<17} {count:,}"


def warnings(key: str, part: Mapping[str, Any]) -> Iterator[Problem]:
    if part["unknown"] > MANY * part["tokens"]:
        share = part["unknown"] / part["tokens"]
        yield Problem(
            f"{share:.0%} of the tokens are unknown",
            code="data.unknown",
            key=key,
            hint="raise data.tokenizer.vocab_size, or take kind bpe",
        )
    for what in ("truncated", "dropped"):
        count = part["counts"].get(what, 0)
        if count > MANY * part["items"]:
            yield Problem(
                f"{count:,} of {part['items']:,} {part['what']} are {what}",
                code=f"data.{what}",
                key=key,
                hint="raise their greatest length",
            )


def shown(example: str) -> str:
    """An example as it is printed."""
    return example if len(example) <= SHOWN else f"{example[:SHOWN]}…"
