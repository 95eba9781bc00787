"""The comment lines at the top of a recipe, some of which `aigc recipe ls` shows.

# yaml-language-server: $schema=../schema.json
# makes: photographs of twice the width and height
# from: builtin:photos
# parameters: 184 k
# minutes: 4 (2 CPU cores)
# score: PSNR 32.1 dB on the held-out photographs, bicubic 30.9
#
# Anything else is for the reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

KEYS = ("makes", "from", "parameters", "minutes", "score")
SCHEMA = "# yaml-language-server: $schema="

_FACT = re.compile(rf"#\s*({'|'.join(KEYS)}):\s*(\S.*)")


def facts(text: str) -> dict[str, str]:
    """The lines `# key: value` above the first key of the recipe."""
    found = (match for line in _comments(text) if (match := _FACT.fullmatch(line.strip())))
    return {match[1]: match[2] for match in found}


def with_schema(text: str, schema: str) -> str:
    """The recipe with its schema line, which editors read, pointing to `schema`."""
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    rest = lines[1:] if lines and lines[0].startswith(SCHEMA) else lines
    return f"{SCHEMA}{schema}\n{''.join(rest)}"


def _comments(text: str) -> Iterator[str]:
    for line in text.removeprefix("\ufeff").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return
        yield line
