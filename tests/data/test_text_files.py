"""Text files as they lie there: their forms, their line ends, and one sentence for each damage."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from aigc_cli.data import _text_files
from aigc_cli.data._text_files import Place, TextFile, field, open_texts, strings, turns
from aigc_cli.errors import DataError


def records(path: Path, **options: object) -> list[object]:
    return [record for _, record in open_texts(str(path), **options).records()]


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


ODD = "a\x0bb\u2028c\x85d\x0ce\x1cf"
"""Holds what str.splitlines would split at."""


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "train.de.gz", "noending"])
def test_only_line_feeds_end_a_line(tmp_path, name):
    path = write(tmp_path / name, f"\ufeff{ODD}\r\n\nlast")
    assert records(path) == [ODD, "", "last"]
    assert TextFile(path).form == "plain"


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 18])
def test_blocks_part_no_character(tmp_path, monkeypatch, block):
    monkeypatch.setattr(_text_files, "BLOCK", block)
    text = "é我🙂\nx\r\n" * 3
    path = write(tmp_path / "a.txt", text)
    blocks = list(TextFile(path).blocks())
    assert "".join(piece for piece, _ in blocks) == text
    assert [last for _, last in blocks] == [False] * (len(blocks) - 1) + [True]
    assert list(TextFile(path).lines()) == ["é我🙂", "x"] * 3


def test_forms_are_told_by_names(tmp_path):
    rows = [{"text": "a"}, {"text": ["b", "c"]}]
    lines = "\n".join(map(json.dumps, rows)) + "\n\n"
    assert records(write(tmp_path / "a.jsonl.gz", lines)) == rows
    assert records(write(tmp_path / "a.json", json.dumps(rows))) == rows
    assert records(write(tmp_path / "a.tsv", 'x\t"y\tz\n')) == [["x", '"y', "z"]]


def test_tables_have_a_head_and_quotes(tmp_path):
    path = write(tmp_path / "a.csv", 'text,label\r\n"one, ""two""",x\r\n"over\ntwo lines",y\r\n')
    assert list(open_texts(str(path)).records()) == [
        (Place("a.csv", 2), {"text": 'one, "two"', "label": "x"}),
        (Place("a.csv", 4), {"text": "over\ntwo lines", "label": "y"}),
    ]
    for content, said in (
        ("a,b\n1\n", "a.csv:2: 1 columns, and the first line names 2"),
        ('a,b\n1,"2\n', "a.csv:2: no CSV: unexpected end of data"),
    ):
        with pytest.raises(DataError) as caught:
            records(write(path, content))
        assert said in str(caught.value)


def test_folders_and_lists_are_joined_by_name(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden"):
        write(tmp_path / name, name)
    write(tmp_path / "c.txt.gz", "c")
    assert records(tmp_path) == ["a.txt", "b.txt", "c"]
    both = open_texts(["b.txt", "a.txt"], bases=[tmp_path])
    assert [record for _, record in both.records()] == ["b.txt", "a.txt"]


def test_hugging_face_files(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    made = datasets.Dataset.from_dict({"text": ["a", "b"], "n": [1, 2]})
    made.to_parquet(str(tmp_path / "set.parquet"))
    texts = open_texts("hf:set.parquet", bases=[tmp_path])
    assert [record for _, record in texts.records()] == [
        {"text": "a", "n": 1},
        {"text": "b", "n": 2},
    ]
    made.save_to_disk(str(tmp_path / "saved"))
    assert len(list(open_texts("hf:saved", bases=[tmp_path]).records())) == 2


def test_the_digest_is_that_of_the_content(tmp_path):
    paths = [write(tmp_path / f"{i}.txt", text) for i, text in enumerate("aab")]
    digests = [open_texts(str(path)).digest for path in paths]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b"ok\nna\xefve", "a.txt:2: byte 0xef is not UTF-8"),
        ("a.txt", b"cut \xf0\x9f", "a.txt:1: byte 0xf0 is not UTF-8"),
        ("a.jsonl", b'{"a": 1}\n{"a"', "a.jsonl:2: no JSON: Expecting ':' delimiter"),
        ("a.jsonl", b"[1, 2]", r"a.jsonl:1: no JSON object but \[1, 2\]"),
        ("a.json", b"{}", "a.json: no JSON list of objects"),
        ("a.json", b"[[]]", "a.json: item 1 is no JSON object"),
        ("a.json", b"[" * 100_000, "a.json: no JSON: "),
    ],
)
def test_damaged_files(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        records(write(tmp_path / name, content))


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(b"words and more words " * 1000)
    for cut in (b"no gzip", whole[: len(whole) // 2]):
        (tmp_path / "a.gz").write_bytes(cut)
        with pytest.raises(DataError, match=r"^a\.gz cannot be read: "):
            records(tmp_path / "a.gz")


def test_what_is_absent(tmp_path):
    write(tmp_path / "words.txt", "x")
    with pytest.raises(DataError, match=r"^data\.val: 'wrds\.txt' does not exist") as caught:
        open_texts("wrds.txt", bases=[tmp_path], key="data.val")
    assert caught.value.hint == "did you mean 'words.txt'?"
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no files in 'none'"):
        open_texts("none", bases=[tmp_path])


def test_fields():
    place = _text_files.Place("f", 3)
    assert field("line", "any", place) == "line"
    assert field(["a", "b"], 1, place) == "b"
    assert strings("a", "k", place) == ["a"]
    assert turns({"t": [["USER", "hi\n there"], ["SYSTEM", "ho"]]}, "t", place) == [
        "hi there",
        "ho",
    ]
    for call, message in [
        (lambda: field({"a": 1}, "b", place), "f:3: no key 'b'"),
        (lambda: field(["a"], 1, place), "f:3: no column 1 in 1"),
        (lambda: field(["a"], "b", place), "f:3: 'b' is no number of a column"),
        (lambda: strings(["a", 5], "k", place), "f:3: 'k' is 5, not a text or list of texts"),
        (lambda: turns({"t": "x"}, "t", place), "f:3: 't' is no list of turns"),
    ]:
        with pytest.raises(DataError, match=message):
            call()


def test_halves_of_surrogate_pairs_are_named_with_their_place(tmp_path):
    """A tokenizer, a file and a digest cannot hold them; a whole pair is one character."""
    (tmp_path / "a.jsonl").write_text('{"a": "\\ud83d\\ude00"}\n{"a": ["b", "bad \\ud800 char"]}\n')
    rows = open_texts(str(tmp_path / "a.jsonl")).records()
    assert next(rows)[1] == {"a": "😀"}
    with pytest.raises(DataError, match=r"a\.jsonl:2: \\ud800 is half of a surrogate pair"):
        next(rows)
    (tmp_path / "a.json").write_text('[{"a": "b"}, {"\\uDC00": "c"}]')
    with pytest.raises(DataError, match=r"a\.json item:2: \\udc00 is half of a surrogate pair"):
        list(open_texts(str(tmp_path / "a.json")).records())
