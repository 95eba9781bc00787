"""The part of YAML 1.2 a recipe needs, with the line of every key.

A recipe is one document of mappings, lists and scalars. Plain scalars are numbers, true, false or
null exactly as YAML 1.2's core schema says, so `1e-4` is a number and `no`, `on`, `12:30:00` and
`2023-09-16` are text. What merely looks like a number (`010`, `0x1f`, `1_000`) is text too, so that
a field that wants a number refuses it. Anchors, aliases, tags, several documents and keys given
twice are errors: they make a file mean something else than it shows.

Built on the events of PyYAML, not on its constructors: no tag can reach Python, and depth and size
are bounded before anything is built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml import events

from aigc_cli.errors import Problem, RecipeError

MAX_BYTES = 100_000  # PyYAML reads some 200 kB/s; shipped recipes have 1 to 3 kB
MAX_DEPTH = 20
MAX_DIGITS = 30

Path = tuple[str | int, ...]

_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPECIAL: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}


@dataclass
class Document:
    """Plain data, the line (from 1) of each key and list item, and what is wrong with the text."""

    data: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


class _Stop(Exception):
    """A problem after which the rest of the text cannot be read."""

    def __init__(self, line: int | None, message: str, hint: str | None = None) -> None:
        self.line, self.message, self.hint = line, message, hint

    def problem(self, file: str) -> Problem:
        return Problem(self.message, "recipe.yaml", file, self.line, hint=self.hint)


def parse(raw: bytes, file: str) -> Document:
    """Read a recipe. Never raises: everything that is wrong stands in `problems`."""
    document = Document()
    try:
        document.data = _Builder(document, file).document(_decode(raw))
    except _Stop as stop:
        document.problems.append(stop.problem(file))
    return document


def decode(raw: bytes, file: str) -> str:
    """The text of a recipe.

    Raises:
        RecipeError: it is not UTF-8, or too large.
    """
    try:
        return _decode(raw)
    except _Stop as stop:
        raise RecipeError([stop.problem(file)]) from None


def scalar(text: str) -> Any:
    """What a plain scalar means: null, a boolean, a number or text."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) <= MAX_DIGITS:
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def _decode(raw: bytes) -> str:
    if len(raw) > MAX_BYTES:
        raise _Stop(None, f"the file is larger than a recipe may be ({MAX_BYTES:,} bytes)")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _Stop(
            line, f"byte 0x{raw[error.start]:02x} is not UTF-8", "save the file as UTF-8"
        ) from None


class _Builder:
    """Turns the events of one document into data, depth first."""

    def __init__(self, document: Document, file: str) -> None:
        self.lines = document.lines
        self.problems = document.problems
        self.file = file

    def document(self, text: str) -> Any:
        stream = _events(text)
        first = next(stream, None)
        if first is None:
            raise _Stop(None, "the file is empty", "see `aigc recipe ls` for recipes to copy")
        data = self.value(first, stream, ())
        if extra := next(stream, None):
            raise _Stop(_line(extra), "a second document begins here; a recipe is one document")
        return data

    def value(self, event: yaml.Event, stream: Iterator[yaml.Event], path: Path) -> Any:
        if len(path) > MAX_DEPTH:
            raise _Stop(_line(event), f"nested deeper than {MAX_DEPTH} levels")
        self.lines.setdefault(path, _line(event))
        if isinstance(event, events.MappingStartEvent):
            return self.mapping(stream, path)
        if isinstance(event, events.SequenceStartEvent):
            return self.sequence(stream, path)
        assert isinstance(event, events.ScalarEvent)
        return scalar(event.value) if event.implicit[0] else event.value

    def mapping(self, stream: Iterator[yaml.Event], path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := next(stream), events.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, events.ScalarEvent):
                raise _Stop(line, "a key is one word, not a list or a mapping")
            key = str(event.value)
            place = (*path, key)
            if key in data:
                message = f"given twice, first in line {self.lines[place]}"
                dotted = ".".join(map(str, place))
                self.problems.append(
                    Problem(message, "recipe.duplicate_key", self.file, line, dotted)
                )
            else:
                self.lines[place] = line
            value = self.value(next(stream), stream, place)
            data.setdefault(key, value)
        return data

    def sequence(self, stream: Iterator[yaml.Event], path: Path) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := next(stream), events.SequenceEndEvent):
            data.append(self.value(event, stream, (*path, len(data))))
        return data


def _events(text: str) -> Iterator[yaml.Event]:
    """Events of the content, without stream and document; refuses what recipes do not use."""
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, events.AliasEvent) or getattr(event, "anchor", None):
                raise _Stop(_line(event), "anchors (&) and aliases (*) are not used in recipes")
            elif tag := getattr(event, "tag", None):
                raise _Stop(_line(event), f"tags ({tag}) are not used in recipes")
            elif isinstance(event, events.ScalarEvent) and _SURROGATE.search(event.value):
                raise _Stop(_line(event), "an escape in the text is half of a surrogate pair")
            elif not isinstance(event, _FRAME):
                yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Stop(mark.line + 1 if mark else None, *_words(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Stop(line, f"character U+{ord(text[error.position]):04X} is not allowed") from None


_FRAME = (
    events.StreamStartEvent,
    events.StreamEndEvent,
    events.DocumentStartEvent,
    events.DocumentEndEvent,
)


def _words(error: yaml.MarkedYAMLError) -> tuple[str, str | None]:
    problem = error.problem or "the text cannot be read"
    if r"'\t'" in problem:
        return "a tab is used for indentation", "use spaces"
    return f"not valid YAML: {problem}", None


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    assert mark is not None
    return mark.line + 1
