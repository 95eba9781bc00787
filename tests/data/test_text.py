"""Texts as rows: every token once, documents apart, counts as a brute force has them."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aigc_cli.data import _text_files, _tokens
from aigc_cli.data._rows import HeldOut, pack
from aigc_cli.data._stream import StepSampler
from aigc_cli.data.text import Config, Data
from aigc_cli.errors import DataError
from aigc_cli.specs import spec_from_dict
from aigc_cli.specs.text import IGNORE
from aigc_cli.text.tokenizer import Tokenizer

BARE = {"kind": "characters", "specials": "none"}
WORDS = ["the", "a", "cat", "dog", "sees", "likes", "old", "new", "house", "tree", "and", "or"]


def words(count: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


@pytest.fixture
def book(tmp_path) -> Path:
    """Running text of 40 lines."""
    path = tmp_path / "book.txt"
    path.write_text("".join(f"{words(3 + i % 5, i)}\n" for i in range(40)))
    return path


@pytest.fixture
def lines(tmp_path) -> Path:
    """A document a line, of 1 to 60 characters."""
    path = tmp_path / "lines.txt"
    draw = random.Random(1)
    path.write_text("".join("x" * draw.randint(1, 60) + "\n" for _ in range(200)))
    return path


def made(train: Path, **options: object) -> Data:
    return Data(Config.model_validate({"train": str(train), **options}), seed=0)


def learned(item: dict[str, torch.Tensor]) -> list[int]:
    return item["target"][item["target"] != IGNORE].tolist()


def test_characters_without_specials_are_those_of_nanogpt(book):
    """Ids by sorted symbol, the first 90 % train, rows are x and x shifted by one, anywhere."""
    text = book.read_text()
    data = made(book, context=8, packing="windows", tokenizer=BARE)
    symbols = sorted(set(text[: int(0.9 * len(text))]))
    ids = [symbols.index(c) for c in text[: int(0.9 * len(text))]]
    assert data.tokenizer.tokens == symbols
    starts = set()
    for seed in range(len(ids)):
        item = data.train[(0, seed)]
        row = item["tokens"].tolist() + item["target"].tolist()[-1:]
        found = [s for s in range(len(ids) - 8) if ids[s : s + 9] == row]
        assert found
        starts.update(found)
        assert item["target"][:-1].tolist() == item["tokens"][1:].tolist()
    assert {0, len(ids) - 9} <= starts  # the first and the last place are drawn


@pytest.mark.parametrize("tokenizer", [BARE, {"kind": "bpe", "vocab_size": 270}])
def test_a_stream_learns_every_token_once_an_epoch(book, tokenizer):
    data = made(book, context=8, tokenizer=tokenizer)
    bare = tokenizer is BARE
    for rows in (data.train.rows, data.val):
        read = [number for i in range(len(rows)) for number in learned(rows[i])]
        assert read == rows.tokens.ids[bare:].tolist()
        for i in range(len(rows)):
            item = rows[i]
            assert len(item["tokens"]) == len(item["target"]) == 8
            assert bare or item["tokens"][0] == data.tokenizer.bos_id
            count = len(learned(item))
            assert item["tokens"][1:count].tolist() == item["target"][: count - 1].tolist()
    whole = "".join(data.tokenizer.decode(rows.tokens.ids) for rows in (data.train.rows, data.val))
    assert whole == book.read_text()


def test_the_end_of_the_text_validates_and_trains_no_tokenizer(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ab" * 45 + "ZZab" + "ab" * 3)
    data = made(path, context=4, tokenizer={"kind": "characters"})
    assert "Z" not in data.tokenizer.tokens
    assert data.report["data.val"].unknown == 2
    assert data.tokenizer.decode(data.train.rows.tokens.ids) == "ab" * 45


@pytest.mark.parametrize("overlong", ["split", "truncate", "drop"])
@pytest.mark.parametrize("context", [7, 16, 64])
def test_isolated_rows_hold_whole_documents(lines, overlong, context):
    """Every document, or what the setting leaves of it, once and apart; counts by brute force."""
    data = made(lines, documents="line", packing="isolated", context=context, overlong=overlong,
                tokenizer={"kind": "characters"}, val=str(lines))  # fmt: skip
    bos, eos = data.tokenizer.bos_id, data.tokenizer.eos_id
    documents = lines.read_text().splitlines()
    expected, lost, long = [], 0, 0
    for text in documents:
        ids = [*data.tokenizer.encode(text), eos]
        long += len(ids) > context
        if len(ids) <= context:
            expected.append(ids)
        elif overlong == "split":
            expected += [ids[j : j + context] for j in range(0, len(ids), context)]
        elif overlong == "truncate":
            expected.append(ids[:context])
            lost += len(ids) - context
        else:
            lost += len(ids)
    found, padding = [], 0
    for i in range(len(data.train)):
        item = data.train[(i, 0)]
        numbers = item["document"]
        pad = item["target"] == IGNORE
        padding += int(pad.sum())
        assert len(numbers) == context
        assert (numbers[1:] >= numbers[:-1]).all()
        assert not set(numbers[pad].tolist()) & set(numbers[~pad].tolist())
        for number in numbers[~pad].unique():
            here = numbers == number
            tokens, target = item["tokens"][here].tolist(), item["target"][here].tolist()
            assert tokens == [bos, *target[:-1]]
            found.append(target)
    assert sorted(found) == sorted(expected)
    counts = data.report["data.train"].counts
    name = {"split": "split", "truncate": "truncated", "drop": "dropped"}[overlong]
    assert counts["padding"] == padding
    assert counts["rows"] == len(data.train)
    assert counts[name] == long
    assert counts.get(f"{name} tokens", 0) == lost


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 20), max_size=60))
def test_packing_keeps_all_and_leaves_no_row_that_another_could_hold(lengths):
    rows = pack(lengths, 20)
    assert sorted(n for row in rows for n in row) == list(range(len(lengths)))
    sums = sorted(sum(lengths[n] for n in row) for row in rows)
    assert all(total <= 20 for total in sums)
    assert len(sums) < 2 or sums[0] + sums[1] > 20
    assert rows == pack(np.array(lengths), 20)


def test_packing_fills_as_best_fit_does():
    """By hand: 9, 7, 5 open rows; 3 goes to 7, 2 to the rest of 5, 1 to 9."""
    assert pack([2, 9, 3, 7, 1, 5], 10) == [[1, 4], [3, 2], [5, 0]]


@pytest.mark.parametrize("packing", ["windows", "stream", "isolated"])
def test_order_is_that_of_the_seed_and_the_position(lines, packing):
    """What two ranks see together, and what a resumed run sees, are the batches of one run."""
    data = made(lines, documents="line", packing=packing, context=16,
                tokenizer={"kind": "characters"})  # fmt: skip

    def read(**options: int) -> list[dict[str, torch.Tensor]]:
        given = {"global_batch": 4, "seed": 3, "stop": 120, **options}
        sampler = StepSampler(len(data.train), **given)
        return [data.train.collate([data.train[key] for key in keys]) for keys in sampler]

    whole = read()
    assert len(whole) * 4 > len(data.train)  # into the second epoch
    for resumed, expected in zip(read(start=13), whole[13:], strict=True):
        assert all(torch.equal(resumed[k], expected[k]) for k in expected)
    for first, second, expected in zip(
        read(rank=0, world=2), read(rank=1, world=2), whole, strict=True
    ):
        assert all(torch.equal(torch.cat([first[k], second[k]]), expected[k]) for k in expected)


def test_documents_of_every_form(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\n")
    rows = [{"body": ["p", "q"]}, {"body": "  "}, {"body": "r"}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def documents(name: str, **options: object) -> list[str]:
        data = made(tmp_path / name, val=str(tmp_path / name), tokenizer={"kind": "characters"},
                    **options)  # fmt: skip
        tokens = data.train.rows.tokens
        return [data.tokenizer.show(tokens[i]) for i in range(len(tokens))]

    assert documents("a.txt") == ["one\ntwo\n\n\nthree\n<eos>"]
    assert documents("a.txt", documents="line") == ["one<eos>", "two<eos>", "three<eos>"]
    assert documents("a.txt", documents="paragraph") == ["one\ntwo<eos>", "three<eos>"]
    assert documents("b.jsonl", key="body") == ["p\nq<eos>", "r<eos>"]


def test_a_second_time_nothing_is_encoded(book, cache, monkeypatch):
    first = made(book, context=8, tokenizer={"kind": "bpe", "vocab_size": 270})
    files = {path: path.stat().st_ino for path in cache.rglob("*.*")}
    assert {path.suffix for path in files} == {".tokens", ".json"}
    monkeypatch.setattr(Tokenizer, "encode_batch", None)
    monkeypatch.setattr(Tokenizer, "train", None)
    again = made(book, context=16, tokenizer={"kind": "bpe", "vocab_size": 270})
    assert again.spec.tokenizer == first.spec.tokenizer
    assert {path: path.stat().st_ino for path in cache.rglob("*.*")} == files
    book.write_text(book.read_text() + "more")
    with pytest.raises(TypeError):
        made(book, context=8, tokenizer={"kind": "bpe", "vocab_size": 270})


def test_a_build_that_is_cut_off_leaves_nothing(book, cache, monkeypatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(_tokens.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        made(book, context=8, tokenizer={"kind": "characters"})
    assert not list(cache.rglob("*.tokens"))
    assert not list(cache.rglob(".*.tmp"))


def test_without_a_cache_rows_are_the_same(book, cache):
    kept, off = (made(book, context=8, cache=c, tokenizer=BARE) for c in ("auto", "off"))
    assert all(torch.equal(kept.val[0][k], off.val[0][k]) for k in ("tokens", "target"))
    assert len(list(cache.rglob("*.tokens"))) == 2


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_train(book, cache):
    off = made(book, context=8, cache="off", tokenizer=BARE)
    cache.mkdir(exist_ok=True)
    for part in ("tokens", "tokenizers"):
        (cache / part).write_text("in the way of a folder")
    kept = made(book, context=8, tokenizer=BARE)
    assert all(torch.equal(kept.val[0][k], off.val[0][k]) for k in ("tokens", "target"))
    assert (cache / "tokens").read_text() == "in the way of a folder"


def test_building_holds_little_of_a_large_file(tmp_path, monkeypatch):
    """A text 100 times larger than what is read at once takes less memory than itself."""
    monkeypatch.setattr(_text_files, "BLOCK", 4096)
    monkeypatch.setattr(_tokens, "PIECE", 4096)
    monkeypatch.setattr(_tokens, "CHUNK", 4096)
    path = tmp_path / "large.txt"
    path.write_text((words(20, 0) + "\n") * 5000)
    options = {"context": 64, "tokenizer": {"kind": "characters"}}
    made(path, **options, cache=str(tmp_path / "warm"))  # imports and tables are not counted
    tracemalloc.start()
    data = made(path, **options, cache=str(tmp_path / "cold"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < path.stat().st_size
    assert data.report["data.train"].tokens > 100 * 4096 * 0.8


def test_the_spec_holds_the_tokenizer(book):
    data = made(book, context=8, tokenizer={"kind": "words"})
    spec = spec_from_dict(data.spec.as_dict())
    assert Tokenizer.from_json(spec.tokenizer).digest == data.tokenizer.digest
    assert spec.context == 8


def test_the_tokenizer_of_a_checkpoint_or_file(book, tmp_path):
    first = made(book, context=8, tokenizer={"kind": "words"})
    run = tmp_path / "run" / "checkpoints"
    run.mkdir(parents=True)
    torch.save({"format": 1, "spec": first.spec.as_dict()}, run / "last.ckpt")
    (tmp_path / "tokenizer.json").write_text(first.spec.tokenizer)
    for place in (tmp_path / "run", run / "last.ckpt", tmp_path / "tokenizer.json"):
        data = made(book, context=8, tokenizer={"from": str(place)})
        assert data.spec.tokenizer == first.spec.tokenizer
    (tmp_path / "bad.ckpt").write_bytes(b"junk")
    for place, message in (("bad.ckpt", "no checkpoint of a family"), ("none", "is no run")):
        with pytest.raises(DataError, match=message):
            made(book, tokenizer={"from": str(tmp_path / place)})


def test_texts_behind_an_item(book):
    data = made(book, context=20, tokenizer=BARE)
    asked = data.val.texts(0)
    end = book.read_text()[int(0.9 * len(book.read_text())) :]
    assert asked["prompt"] + asked["references"][0] == end[1:21]
    assert next(data.examples(1)) == book.read_text()[:20]


@pytest.mark.parametrize(
    "val, message",
    [
        ("10%", r"data\.val: 10% are documents, and data\.documents=file has one a file"),
        ("0%", r"data\.val: 0% leaves nothing to validate"),
        ("last 100%", r"data\.val: last 100% leaves nothing to train"),
        ("absent.txt", r"data\.val: 'absent\.txt' does not exist"),
    ],
)
def test_parts_that_cannot_be(book, val, message):
    with pytest.raises(DataError, match=message):
        made(book, val=val)


def test_nothing_to_learn(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\n \n")
    with pytest.raises(DataError, match=r"^data\.train: no documents in"):
        made(path, documents="line")
    path.write_text("one\n")
    with pytest.raises(DataError, match=r"1 documents in .* cannot both train and validate"):
        made(path, documents="line")
    path.write_text("abcd\nabcdefgh\nabcdefgh\n")
    with pytest.raises(DataError, match=r"^data\.train: nothing in .* can be learned: 2 documents"):
        made(path, documents="line", packing="isolated", overlong="drop", context=6, val="10%",
             tokenizer={"kind": "characters"})  # fmt: skip


def test_an_unknown_character_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ab" * 20 + "Z")
    with pytest.raises(DataError, match=r"^data\.tokenizer: the character 'Z' is none of"):
        made(path, tokenizer=BARE, context=4)


def test_shares_are_those_of_the_words():
    assert HeldOut.parse("last 10%").numbers(1000) == range(900, 1000)
    assert HeldOut.parse("5%").numbers(100) == range(0, 100, 20)
    assert HeldOut.parse("last 0.1%").numbers(5) == range(4, 5)
    assert HeldOut.parse("val.txt") is None


@pytest.mark.parametrize(
    "tokenizer",
    [{"kind": "bpe", "specials": "none"}, {"kind": "unigram", "min_count": 2}, {"vocab": 3}],
)
def test_settings_that_do_not_fit(book, tokenizer):
    with pytest.raises(ValidationError):
        made(book, tokenizer=tokenizer)
