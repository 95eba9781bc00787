from __future__ import annotations

import pytest

from aigc_cli.text.sentences import lead


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("It rains. It pours! Does it?", 2, "It rains. It pours!"),
        ("One line\nAnother. More", 1, "One line"),
        ("It costs 3.50 euros. Really.", 1, "It costs 3.50 euros."),
        ("下雨了。路很滑。小心", 2, "下雨了。路很滑。"),
        ("no end", 3, "no end"),
        ("", 1, ""),
    ],
)
def test_the_first_sentences(text: str, count: int, expected: str) -> None:
    assert lead(text, count) == expected
