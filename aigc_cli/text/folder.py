"""The tokenizer in a folder of Hugging Face's `transformers`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aigc_cli.errors import InputError
from aigc_cli.text.tokenizer import Tokenizer


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
    text = file.read_text(encoding="utf-8")
    tokenizer = Tokenizer.from_json(text)
    settings = read_json(file.with_name("tokenizer_config.json"), {})
    eos, bos, pad = (_name(settings.get(f"{role}_token")) for role in ("eos", "bos", "pad"))
    if eos is None or tokenizer.eos_id is not None:
        return tokenizer
    return Tokenizer.adopt(text, eos=eos, bos=bos, pad=pad)


def _name(value: Any) -> str | None:
    return value.get("content") if isinstance(value, dict) else value


def read_json(path: Path, default: dict[str, Any] | None = None) -> dict[str, Any]:
    """
    Raises:
        InputError: it holds no JSON object; or it is absent and there is no default.
    """
    if not path.is_file() and default is not None:
        return default
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds no JSON object")
    return data
