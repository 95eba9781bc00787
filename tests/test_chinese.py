"""Pages in Chinese say what their English ones say: the same commands, numbers, headings, links."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHINESE = sorted([*ROOT.glob("*.zh-CN.md"), *ROOT.glob("docs/*.zh-CN.md")])
PAIRS = [pytest.param(Path(str(p).replace(".zh-CN", "")), p, id=p.name) for p in CHINESE]

_FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_HAN = re.compile(r"[\u4e00-\u9fff]")


def blocks(text: str) -> list[list[str]]:
    """Lines of the code blocks, without what explains them: `# ...` and what two spaces set off."""
    return [
        [re.split(r" {2,}|\s#\s", line)[0].rstrip() for line in block.splitlines()]
        for block in _FENCE.findall(text)
    ]


def numbers(text: str) -> Counter[str]:
    return Counter(re.findall(r"\d+(?:[.,:]\d+)*", re.sub(r"\]\([^)]*\)", "]", text)))


def links(text: str) -> Counter[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return Counter(link.replace(".zh-CN", "") for link in found)


def rows(text: str) -> list[int]:
    """How many cells each row of the tables has."""
    return [line.count("|") for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_pages_in_two_languages_say_the_same(english: Path, chinese: Path) -> None:
    one, other = (path.read_text(encoding="utf-8") for path in (english, chinese))
    assert blocks(other) == blocks(one), f"the commands of {chinese.name} differ"
    assert numbers(other) == numbers(one), f"the numbers of {chinese.name} differ"
    assert links(other) == links(one), f"the links of {chinese.name} differ"
    assert rows(other) == rows(one), f"the tables of {chinese.name} differ"
    levels = [re.findall(r"^#+(?= )", _FENCE.sub("", text), re.MULTILINE) for text in (one, other)]
    assert levels[0] == levels[1], f"the headings of {chinese.name} differ"


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_pages_in_two_languages_lead_to_each_other(english: Path, chinese: Path) -> None:
    assert f"[中文]({chinese.name})" in english.read_text(encoding="utf-8")
    assert f"[English]({english.name})" in chinese.read_text(encoding="utf-8")


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_every_heading_and_paragraph_is_in_chinese(english: Path, chinese: Path) -> None:
    for block in re.split(r"\n{2,}", _FENCE.sub("", chinese.read_text(encoding="utf-8"))):
        words = re.sub(r"`[^`]*`|[(<].*?[)>]", "", block)
        if re.search(r"[a-z]{3}", words) and block not in ("# aigc", "[English](README.md)"):
            assert _HAN.search(words) or words.startswith("[English]"), block


def test_a_change_of_one_page_is_seen() -> None:
    text = "# A\n\n8 bits\n\n```\n$ aigc plan a.yaml   # time\nPSNR 3\n```\n"
    assert blocks(text) == [["$ aigc plan a.yaml", "PSNR 3"]]
    assert numbers(text) != numbers(text.replace("3", "4"))
    assert blocks(text) != blocks(text.replace("plan", "train"))
