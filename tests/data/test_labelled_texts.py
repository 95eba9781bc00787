"""Texts with classes: by name, by number and by file, and what is said of each mistake."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch

from aigc_cli.data.labelled_texts import Config, Data, suggest
from aigc_cli.errors import DataError
from aigc_cli.recipe.new import new_recipe
from aigc_cli.specs import spec_from_dict
from aigc_cli.text.tokenizer import Tokenizer

ANIMALS = ("cat", "dog", "owl")


def config(train: Path | str, **options: object) -> Config:
    given = {"train": str(train), "tokenizer": {"kind": "words"}, "cache": "off", **options}
    return Config.model_validate_json(json.dumps(given))


def made(train: Path | str, **options: object) -> Data:
    return Data(config(train, **options), seed=0)


def shown(data: Data) -> list[str]:
    return list(data.examples(len(data.train)))


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """30 lines, of the three classes in turn; line n has n % 5 + 1 words."""
    path = tmp_path / "animals.tsv"
    texts = [" ".join([f"w{n}"] * (n % 5 + 1)) for n in range(30)]
    path.write_text("".join(f"{text}\t{ANIMALS[n % 3]}\tid{n}\n" for n, text in enumerate(texts)))
    return path


def test_texts_keep_their_classes(lines):
    data = made(lines)
    assert (len(data.train), len(data.val)) == (27, 3)
    assert data.spec.labels == ANIMALS
    assert data.spec.counts == (9, 9, 9)  # lines 0, 10 and 20 are held out
    for text in shown(data):
        number = int(text.split()[0].removeprefix("w"))
        assert (
            text == f"{' '.join([f'w{number}'] * (number % 5 + 1))} <eos>\n=> {ANIMALS[number % 3]}"
        )
    held = [ANIMALS[int(data.val[i]["label"])] for i in range(3)]
    assert held == ["cat", "dog", "owl"]
    assert spec_from_dict(json.loads(json.dumps(data.spec.as_dict()))) == data.spec
    assert "w1" in Tokenizer.from_json(data.spec.tokenizer).tokens
    assert "w10" not in Tokenizer.from_json(data.spec.tokenizer).tokens  # only validates


def test_batches_are_padded_at_the_end(lines):
    data = made(lines)
    items = [data.train[(index, 0)] for index in range(4)]
    batch = data.train.collate(items)
    assert batch["label"].tolist() == [int(item["label"]) for item in items]
    for row, item in zip(batch["tokens"], items, strict=True):
        length = len(item["tokens"])
        assert torch.equal(row[:length], item["tokens"])
        assert (row[length:] == data.tokenizer.pad_id).all()
        assert item["tokens"][-1] == data.tokenizer.eos_id
    lengths = [len(data.train[(index, 0)]["tokens"]) for index in range(len(data.train))]
    assert data.train.lengths.tolist() == lengths


@pytest.mark.parametrize("name", ["a.tsv.gz", "a.jsonl", "a.csv"])
def test_every_form_says_the_same(tmp_path, name):
    path = tmp_path / name
    rows = [(f"a text, number {n}", str(n % 2)) for n in range(8)]
    if name == "a.jsonl":
        text = "".join(json.dumps({"text": t, "label": int(k)}) + "\n" for t, k in rows)
    elif name == "a.csv":
        text = "label,text\n" + "".join(f'{k},"{t}"\n' for t, k in rows)
    else:
        text = "".join(f"{t}\t{k}\n" for t, k in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    (tmp_path / "names.txt").write_text("even\nodd\nnone\n")
    data = made(path, val="last 25%", labels=str(tmp_path / "names.txt"))
    assert shown(data)[1] == "a text, number 1 <eos>\n=> odd"
    assert data.spec.labels == ("even", "odd", "none")
    assert data.spec.counts == (3, 3, 0)
    assert made(path, val="last 25%").spec.labels == ("0", "1")


def test_numbers_are_sorted_by_value(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"text {n}\t{n % 3 * 5}\n" for n in range(9)))
    assert made(path, val="last 12%").spec.labels == ("0", "5", "10")


def test_several_classes_are_refused_or_left_out(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"t{n}\t{'1,0' if n == 2 else n % 2}\n" for n in range(12)))
    with pytest.raises(DataError, match=r"a\.tsv:3: 2 classes, 1, 0, and a text has one") as caught:
        made(path, separator=",")
    assert caught.value.hint == "leave such texts out with data.several: drop"
    data = made(path, separator=",", several="drop", val="last 20%")
    assert (len(data.train), len(data.val)) == (8, 3)
    assert not any("t2 " in text for text in shown(data))
    assert data.report["data.train"].counts["several classes"] == 1


def test_long_texts_are_cut_and_counted(lines):
    data = made(lines, max_length=4)
    assert max(data.train.lengths) == 4
    counts = data.report["data.train"].counts
    assert counts == {"several classes": 0, "empty": 0, "truncated": 12, "truncated tokens": 18}
    assert all(len(data.train[(i, 0)]["tokens"]) <= 4 for i in range(len(data.train)))


@pytest.mark.parametrize(
    "content, options, said",
    [
        ("t\ta\n\tb\n", {}, "a.tsv:2: an empty text"),
        ("t\ta\nu\t\n", {}, "a.tsv:2: no class under 1"),
        ("t\ta\nu\n", {}, "a.tsv:2: no column 1 in 1"),
        ("t\ta\nu\ta\nv\ta\n", {}, "the texts have one class, 'a': there is nothing to tell"),
        ("a\tt\nb\tu\n", {"val": "a.tsv"}, None),
        ("a\tt\nb\tu\nc\tv\n", {"label_key": 0, "text_key": 1}, "data.val: class 'a' has no train"),
        ("t\t0\nu\t3\n", {"labels": "names"}, "a.tsv:2: class 3, and data.labels has 2, from 0"),
        ("t\tyes\nu\tnoo\n", {"labels": "names"}, "a.tsv:2: unknown class 'noo'"),
        ("t\tyes\nu\tno\n", {"labels": "twice"}, "data.labels: twice:3: 'yes' is there twice"),
        ("t\tyes\nu\tno\n", {"labels": "absent"}, "data.labels: 'absent' does not exist"),
        ("t\t0\nu\t1\n", {"labels": "many"}, "9 classes, and 1 texts train"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(tmp_path, monkeypatch, content, options, said):
    monkeypatch.chdir(tmp_path)
    Path("a.tsv").write_text(content)
    Path("names").write_text("yes\nno\n")
    Path("twice").write_text("yes\nno\nyes\n")
    Path("many").write_text("".join(f"class {n}\n" for n in range(9)))
    if said is None:
        assert len(made("a.tsv", **options).train) == 2
        return
    with pytest.raises(DataError) as caught:
        made("a.tsv", **options)
    assert said in str(caught.value)


def test_invalid_utf_8_and_plain_lines_are_named(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"t\ta\nu\xff\tb\n")
    with pytest.raises(DataError, match=r"a\.tsv:2: byte 0xff is not UTF-8"):
        made(path)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match=r"a\.txt:1: a plain line has no class"):
        made(tmp_path / "a.txt")


def test_a_new_recipe_has_a_length_that_fits(lines):
    found = suggest(config(lines))
    assert found["max_length"] == (8, "99 of 100 have at most 5 tokens.")
    assert found["train"][1] == "27 texts of 3 classes train; 33% are 'dog'."
    text = new_recipe("text_classifier", str(lines))
    assert "kind: labelled_texts" in text
    assert "max_length: " in text


def test_empty_texts_can_be_dropped_and_are_counted(tmp_path):
    rows = "".join(f"w{n}\t{ANIMALS[n % 3]}\n" for n in range(30))
    (tmp_path / "a.tsv").write_text(rows.replace("w7\t", " \t").replace("w10\t", "\t"))
    data = made(tmp_path / "a.tsv", empty="drop", val="10%")
    assert (len(data.train), len(data.val)) == (26, 2)
    assert data.report["data.train"].counts["empty"] == 1
    assert data.report["data.val"].counts["empty"] == 1
    assert data.report["data.train"].counts["several classes"] == 0
    assert not any(text.startswith("<eos>") for text in shown(data))
    with pytest.raises(DataError, match=r"a\.tsv:8: an empty text") as caught:
        made(tmp_path / "a.tsv")
    assert "data.empty=drop" in caught.value.hint
