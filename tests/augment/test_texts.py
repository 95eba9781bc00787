"""Texts are edited, traced and held apart as images are; their rows are never lost or doubled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aigc_cli.augment._augmentation import Draw
from aigc_cli.augment.text import deleted, inserted, replaced, swapped
from aigc_cli.run.augment import augment
from aigc_cli.run.augmenting import Augmenting
from tests.augment.conftest import Aigc, contents, killed_after, rows

WORDS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=9)


def table(path: Path, sizes: dict[str, int]) -> str:
    lines = [
        f"{label} text number {i} of some words\t{label}"
        for label in sizes
        for i in range(sizes[label])
    ]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@given(WORDS, WORDS, st.integers(1, 5), st.integers(0, 99))
def test_edits_change_as_many_words_as_they_say(
    words: list[str], other: list[str], count: int, number: int
) -> None:
    def draw() -> Draw:
        return Draw(0, number)

    fewer, done = deleted(words, count, draw())
    assert len(fewer) == max(1, len(words) - count)
    assert Counter(fewer) + Counter(done["words"]) == Counter(words)
    assert Counter(swapped(words, count, draw())[0]) == Counter(words)
    longer, done = inserted(words, other, count, draw())
    assert Counter(longer) == Counter(words) + Counter(done["words"])
    assert set(done["words"]) <= set(other)
    changed, done = replaced(words, {"a": ["x", "y"], "b": ["x"]}, count, draw())
    assert len(changed) == len(words)
    assert sum(x != y for x, y in zip(words, changed, strict=True)) == len(done["words"])
    assert len(done["words"]) == min(count, sum(word in "ab" for word in words))


def test_a_set_of_texts_is_read_by_us_and_by_others(tmp_path: Path) -> None:
    from datasets import load_dataset

    from aigc_cli.data.labelled_texts import Config, Data

    data = table(tmp_path / "d.tsv", {"sad": 20, "glad": 8})
    record = augment(Augmenting(data, tmp_path / "o", balance="classes", workers=0))
    assert record["after"] == {"glad": 18, "sad": 18}
    read = rows(tmp_path / "o", "train.jsonl")
    assert Counter(row["label"] for row in read) == {"glad": 18, "sad": 18}
    keys = {key: str(value) for key, value in record["data_keys"].items()}
    ours = Data(Config(kind="labelled_texts", cache="off", **keys), seed=0)
    assert len(ours.train) == 36
    theirs = load_dataset("json", data_files=keys, cache_dir=str(tmp_path / "cache"))
    assert theirs["train"].to_list() == read
    for line in rows(tmp_path / "o"):
        text = (tmp_path / "o" / line["path"]).read_bytes()[line["start"] : line["end"]]
        assert json.loads(text)["label"] == line["label"]


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 40))
def test_a_killed_call_loses_no_row_and_doubles_none(count: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = table(place / "d.tsv", {"sad": 14, "glad": 9})
        augment(Augmenting(data, place / "whole", workers=0))
        killed_after(count, Augmenting(data, place / "cut", workers=0))
        with (place / "cut/train.jsonl").open("a") as file:
            file.write('{"text": "half a ro')
        augment(Augmenting(data, place / "cut", workers=0, go_on=True))
        assert contents(place / "cut") == contents(place / "whole")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("d.tsv", "synonyms=no.txt", "delete=0", "swap=0"), "synonyms: 'no.txt' does not exist"),
        (("d.tsv", "delete=0", "swap=0", "insert=0"), "all edits are 0"),
        (("d.tsv", "--val", "d.tsv"), "items that judge"),
        (("d.tsv", "data.label_key=7"), "d.tsv:1: no column 7"),
        (("bad.jsonl",), "bad.jsonl:2: no key 'text'"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence(
    aigc: Aigc, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    table(tmp_path / "d.tsv", {"sad": 6, "glad": 6})
    (tmp_path / "bad.jsonl").write_text('{"text": "a", "label": "b"}\n{"txt": "a", "label": "b"}\n')
    code, out, err = aigc("augment", *words, "--out", "o")
    assert code == 2
    assert sentence in err
    assert "Traceback" not in out + err


def test_a_built_in_set_is_of_the_modality_of_its_files() -> None:
    """`builtin:` alone was taken for images."""
    from aigc_cli.run.augment_sources import find_augmentation

    for name, modality in (
        ("emotions:train", "text"),
        ("fashion:train", "image"),
        ("photos", "image"),
    ):
        assert find_augmentation(Augmenting(f"builtin:{name}", Path("o")))[2] == modality
