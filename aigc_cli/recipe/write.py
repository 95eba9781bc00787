"""From plain data to YAML that `strict_yaml`, and any YAML 1.1 reader, takes for the same data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

# Begins like a word or a path, holds nothing that means something in YAML, ends in no space.
_PLAIN = re.compile(r"(?!\d)(?:[\w/]|\.{1,2}/)(?:[\w./~@+=<>() -]|:(?=\w))*(?<! )")
_WORDS = {"yes", "no", "on", "off", "y", "n", "true", "false", "null"}


def to_yaml(data: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """Nested mappings as indented keys, an empty line before each section; lists in flow style.

    `comments`, by dotted key, stand above the keys.
    """
    return "\n".join(_lines(data, comments or {}, "")) + "\n"


def _lines(data: Mapping[str, Any], comments: Mapping[str, str], prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for key, value in data.items():
        is_section = isinstance(value, Mapping) and value
        if is_section and not prefix:
            yield ""
        for line in wrap(comments.get(prefix + key, ""), 96 - len(indent)):
            yield f"{indent}# {line}"
        yield f"{indent}{scalar(key)}:" + ("" if is_section else f" {flow(value)}")
        if is_section:
            yield from _lines(value, comments, f"{prefix}{key}.")


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(flow, value)) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """A number, a boolean, null, or text with quotes where it needs them.

    >>> scalar(2e-05), scalar("edsr"), scalar("no"), scalar("1e-4"), scalar("a: b")
    ('2.0e-05', 'edsr', '"no"', '"1e-4"', '"a: b"')
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        mantissa, e, exponent = repr(value).partition("e")
        return mantissa + ("" if "." in mantissa or not e else ".0") + e + exponent
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and text.isprintable() and text.lower() not in _WORDS:
        return text
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"
