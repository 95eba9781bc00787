"""The sentences of a text, by punctuation."""

from __future__ import annotations

import re
from collections.abc import Iterator

_WIDE = "[\u3002\uff01\uff1f]"  # full stop, exclamation and question mark of Chinese and Japanese
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=\S)|(?<=" + _WIDE + r")|\n+")


def lead(text: str, count: int) -> str:
    """The first `count` sentences, the usual baseline of summaries."""
    sentences = [sentence for part in _END.split(text) if (sentence := part.strip())]
    apart = "" if re.search(_WIDE, text) else " "
    return apart.join(sentences[:count])


def leads(text: str, window: int) -> Iterator[tuple[str, str]]:
    """Each sentence as the lead of the text from it on, of at most `window` sentences: the text,
    as it stands, and the sentence.
    """
    ends = [(match.start(), match.end()) for match in _END.finditer(text)] + [(len(text),) * 2]
    begin = 0
    for number, (end, following) in enumerate(ends):
        if sentence := text[begin:end].strip():
            last, _ = ends[min(number + window, len(ends)) - 1]
            yield text[begin:last].strip(), sentence
        begin = following
