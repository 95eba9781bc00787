from __future__ import annotations

import pytest

from aigc_cli.text.sentences import lead, leads


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


def test_each_sentence_leads_what_follows() -> None:
    text = "It rains. It pours!\n\nDoes it?  Yes"
    assert list(leads(text, 3)) == [
        ("It rains. It pours!\n\nDoes it?", "It rains."),
        ("It pours!\n\nDoes it?  Yes", "It pours!"),
        ("Does it?  Yes", "Does it?"),
        ("Yes", "Yes"),
    ]
    wide = [("下雨了。路很滑。", "下雨了。"), ("路很滑。", "路很滑。")]
    assert list(leads("下雨了。路很滑。", 9)) == wide
    assert list(leads(" \n", 9)) == []


@pytest.mark.parametrize("text", ["A b. C d! E", "One\nTwo. Three", "一。二。三"])
def test_the_first_of_the_leads_is_the_lead(text: str) -> None:
    rest, first = next(leads(text, 99))
    assert (rest, first) == (text, lead(text, 1))
