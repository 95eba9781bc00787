"""The tokenizer in a folder of Hugging Face's `transformers`."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from aigc_cli.errors import InputError
from aigc_cli.text.tokenizer import Tokenizer

TEXT_LIMIT = 256 << 20  # bytes of the largest tokenizer.json or index of weights


def read_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json: one of ours as it was written, one of another program with
    the roles that tokenizer_config.json beside it names.

    Raises:
        InputError: there is none that the library `tokenizers` reads, or a role has no token.
    """
    if not file.is_file():
        raise InputError(
            f"{file.parent}: there is no {file.name}",
            hint="save it once with transformers' AutoTokenizer(...).save_pretrained(FOLDER)",
        )
    text = read_text(file)
    try:
        return _with_roles(text, file)
    except InputError as error:
        raise InputError(f"{file}: {error.message}", hint=error.hint) from error


def _with_roles(text: str, file: Path) -> Tokenizer:
    _require_patterns(text)
    tokenizer = Tokenizer.from_json(text)
    settings = read_json(file.with_name("tokenizer_config.json"), {})
    names = {
        role: _name(settings.get(f"{role}_token")) for role in ("eos", "sep", "bos", "cls", "pad")
    }
    # Those of BERT end and begin a text as well.
    eos, bos, pad = names["eos"] or names["sep"], names["bos"] or names["cls"], names["pad"]
    if eos is None or tokenizer.eos_id is not None:
        return tokenizer
    return Tokenizer.adopt(text, eos=eos, bos=bos, pad=pad)


def _require_patterns(text: str) -> None:
    """See that no step replaces matches of nothing, at which the library panics.

    Raises:
        InputError: one does, or the text is no JSON object.
    """
    try:
        data = json.loads(text)
        waiting = [data["normalizer"]]
    except (ValueError, RecursionError, TypeError, KeyError) as error:
        raise InputError(f"not a tokenizer: {type(error).__name__}: {str(error)[:80]}") from error
    while waiting:
        step = waiting.pop()
        if isinstance(step, dict):
            waiting += step.get("normalizers") or []
            pattern = step.get("pattern")
            (pattern,) = pattern.values() if isinstance(pattern, dict) and pattern else (pattern,)
            if step.get("type") == "Replace" and _matches_nothing(pattern):
                raise InputError(f"it replaces {str(pattern)[:80]!r}, which matches empty texts")


def _matches_nothing(pattern: Any) -> bool:
    with suppress(re.error, OverflowError, RecursionError):
        return isinstance(pattern, str) and re.fullmatch(pattern, "") is not None
    return False  # not Python's kind of pattern: Tokenizer tries it


def _name(value: Any) -> str | None:
    name = value.get("content") if isinstance(value, dict) else value
    if not (name is None or isinstance(name, str)):
        raise InputError(f"tokenizer_config.json names a token {str(value)[:80]}, which is no text")
    return name


def read_text(file: Path, limit: int = TEXT_LIMIT) -> str:
    """A whole text file.

    Raises:
        InputError: it cannot be read, is larger than any such file, or is not UTF-8.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > limit:
        raise InputError(f"{file}: larger than {limit >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise InputError(f"{file}: byte 0x{byte:02x} at {error.start} is not UTF-8") from error


def read_json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """
    Raises:
        InputError: it holds no JSON object; or it is absent and there is no default.
    """
    if not path.is_file() and default is not None:
        return default
    try:
        data = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds no JSON object")
    return data
