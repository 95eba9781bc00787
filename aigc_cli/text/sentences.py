"""The sentences of a text, by punctuation."""

from __future__ import annotations

import re

_WIDE = "[\u3002\uff01\uff1f]"  # full stop, exclamation and question mark of Chinese and Japanese
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=\S)|(?<=" + _WIDE + r")|\n+")


def lead(text: str, count: int) -> str:
    """The first `count` sentences, the usual baseline of summaries."""
    sentences = [sentence for part in _END.split(text) if (sentence := part.strip())]
    apart = "" if re.search(_WIDE, text) else " "
    return apart.join(sentences[:count])
