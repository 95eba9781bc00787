"""Whether a source is pairs of texts, and which texts are whose."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aigc_cli.data._claim import (
    HELD_OUT,
    MARKED,
    STRUCTURED,
    Claim,
    columns,
    files_in,
    first_records,
    parts,
    written,
)

ASKED = (("question", "answer"), ("query", "response"), ("context", "response"))
KNOWN = (
    ("source", "target"), ("text", "summary"), ("article", "highlights"), ("document", "summary"),
    ("dialogue", "summary"), ("text", "subject"), ("abstract", "title"), ("article", "title"),
    ("text", "title"), ("src", "tgt"), *ASKED,
)  # fmt: skip
"""Usual keys of source and target; ASKED are of questions and replies."""


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Two files of as many lines that differ in a language's code, or records with two texts."""
    if lines := _languages(source, bases):
        return lines
    values: dict[str, Any] = dict(parts(source, bases))
    records = first_records(values["train"], bases)
    found = {key: column for key, column in columns(records).items() if written(column)}
    if len(found) < 2:
        return None
    a, b = next(
        ((a, b) for a, b in KNOWN if a in found and b in found),
        tuple(found) if len(found) == 2 else tuple(found)[:2] if 0 in found else (None, None),
    )
    if a is None or b is None:
        return None
    lengths = [sum(len(" ".join(_listed(text))) for text in found[key]) for key in (a, b)]
    shared = _shared(found[a], found[b])
    is_summary = shared > 0.3 and lengths[1] < 0.5 * lengths[0]
    facts = {"summaries"} if is_summary else {"replies"} if (a, b) in ASKED else set[str]()
    if (a, b) != (0, 1):
        values |= {"source_key": a, "target_key": b}
    why = f"texts under {a!r} and {b!r}" + (", shorter and of the same words" if is_summary else "")
    return Claim(values, why, STRUCTURED, frozenset(facts))


def _languages(source: str, bases: Sequence[Path]) -> Claim | None:
    """Files such as train.en and train.de in a folder, each packed or not."""
    files: dict[tuple[str, str], str] = {}
    for file in files_in(source, bases):
        if match := re.fullmatch(r"([\w-]+)\.([a-z]{2})(\.txt)?(\.gz)?", file.name):
            files[match[1], match[2]] = f"{source}/{file.name}"
    stems = {stem for stem, _ in files}
    stem = "train" if "train" in stems else next(iter(stems)) if len(stems) == 1 else None
    codes = [code for name, code in files if name == stem]
    if len(codes) < 2 or stem is None:
        return None
    a, b = sorted(codes, key=lambda code: code != "en")[:2]
    values: dict[str, Any] = {"train": files[stem, a], "train_target": files[stem, b]}
    val = next((v for v in HELD_OUT if (v, a) in files and (v, b) in files), None)
    if val is not None:
        values |= {"val": files[val, a], "val_target": files[val, b]}
    return Claim(values | {"languages": [a, b]}, f"files of lines in {a} and {b}", MARKED)


def _listed(text: Any) -> list[str]:
    return text if isinstance(text, list) else [text]


def _shared(sources: Sequence[Any], targets: Sequence[Any]) -> float:
    """Part of the words of targets that their sources have, too; of characters without spaces."""
    both = total = 0
    for source, target in zip(sources, targets, strict=True):
        text = " ".join(_listed(target)).lower()
        split = str.split if " " in text else list
        words, known = split(text), set(split(" ".join(_listed(source)).lower()))
        both, total = both + sum(word in known for word in words), total + len(words)
    return both / max(total, 1)
