"""Pairs of texts: what belongs together stays together, with the words that can be copied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from aigc_cli.data._stream import StepSampler
from aigc_cli.data.text_pairs import Config, Data, dialogue
from aigc_cli.errors import DataError
from aigc_cli.specs import spec_from_dict
from aigc_cli.specs.text import TextPairSpec
from aigc_cli.text.tokenizer import Tokenizer

WORDS = {"kind": "words"}


def made(train: Path | list[str], **options: object) -> Data:
    train = train if isinstance(train, list) else str(train)
    text = json.dumps({"train": train, "tokenizer": WORDS, **options})
    return Data(Config.model_validate_json(text), seed=0)


def jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def shown(data: Data, index: int) -> tuple[str, str]:
    item = data.train[(index, 0)]
    return data.source.show(item["source"].tolist()), data.target.show(item["target"].tolist())


@pytest.fixture
def lines(tmp_path) -> tuple[Path, Path]:
    """30 lines of two languages; line n has n % 7 + 1 words."""
    german, english = tmp_path / "train.de", tmp_path / "train.en"
    german.write_text(
        "".join(" ".join(f"w{n}" for _ in range(n % 7 + 1)) + "\n" for n in range(30))
    )
    english.write_text("".join(f"v{n} x\u2028y\n" for n in range(30)))
    return german, english


def test_lines_pair_by_their_numbers(lines):
    german, english = lines
    data = made(german, train_target=str(english), target_tokenizer=WORDS, languages=["de", "en"])
    assert (len(data.train), len(data.val)) == (27, 3)
    for i in range(27):
        source, target = shown(data, i)
        number = source.split()[0].removeprefix("w")
        assert target == f"<bos> v{number} x y <eos>"
        assert source.endswith(" <eos>")
    spec = data.spec
    assert isinstance(spec, TextPairSpec)
    assert spec.languages == ("de", "en")
    assert spec_from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
    assert "v1" in Tokenizer.from_json(spec.target_tokenizer).tokens
    assert "v1" not in Tokenizer.from_json(spec.source_tokenizer).tokens
    assert data.val.texts(1) == {"prompt": " ".join(["w10"] * 4), "references": ["v10 x\u2028y"]}


def test_one_vocabulary_serves_both_sides(lines):
    data = made(lines[0], train_target=str(lines[1]))
    assert data.spec.source_tokenizer == data.spec.target_tokenizer
    assert {"w1", "v1"} <= set(data.source.tokens)


def test_lines_that_do_not_pair_are_counted(lines):
    german, english = lines
    english.write_text("only\nthree\nlines\n")
    for train, target, counts in ((german, english, (30, 3)), (english, german, (3, 30))):
        message = rf"has {counts[0]} texts and .* has {counts[1]}: they do not pair"
        with pytest.raises(DataError, match=message):
            made(train, train_target=str(target))


def test_columns_and_their_choice(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"en{i}\tzh{i}\tby someone\n" for i in range(10)))
    assert shown(made(path, val="last 10%"), 0) == ("en0 <eos>", "<bos> zh0 <eos>")
    assert shown(made(path, val="last 10%", source_key=1, target_key=0), 0) == (
        "zh0 <eos>",
        "<bos> en0 <eos>",
    )


def test_several_targets_train_apart_and_validate_together(tmp_path):
    rows = [{"s": ["a b", "c"], "t": [f"t{i}", f"u{i}"], "more": ["m"]} for i in range(4)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    data = made(path, source_key="s", target_key="t", references_key="more", val="last 25%")
    assert [shown(data, i) for i in range(len(data.train))] == [
        ("a b c <eos>", f"<bos> {side}{i} <eos>") for i in range(3) for side in "tu"
    ]
    assert data.val.texts(0) == {"prompt": "a b c", "references": ["t3", "u3", "m"]}
    assert len(data.val) == 1


def test_leads_need_no_targets(tmp_path):
    rows = [{"text": ["a b.", "c d."]}] * 3
    plain = tmp_path / "plain.txt"
    plain.write_text("a b. c d.\n" * 3)
    for train, key in ((jsonl(tmp_path / "a.jsonl", rows), "text"), (plain, None)):
        data = made(train, pretext="lead", val=str(train), source_key=key)
        assert [shown(data, i) for i in range(2)] == [
            ("a b. c d. <eos>", "<bos> a b. <eos>"),
            ("c d. <eos>", "<bos> c d. <eos>"),
        ]
        assert (len(data.train), len(data.val)) == (6, 6)
        assert data.val.texts(0) == {"prompt": "a b. c d.", "references": ["a b."]}


def test_turns_reply_to_those_before(tmp_path):
    assert [tuple(pair) for pair in dialogue(["a", "b", "c", "d"], 2)] == [
        ("a", ["b"]),
        ("a\nb", ["c"]),
        ("b\nc", ["d"]),
    ]
    rows = [
        {"turns": [["USER", f"q{i}"], ["SYSTEM", f"a{i}"], ["USER", f"z{i}"]]} for i in range(9)
    ]
    data = made(jsonl(tmp_path / "a.jsonl", rows), turns_key="turns", context_turns=2)
    assert shown(data, 1) == ("q1\na1 <eos>", "<bos> z1 <eos>")
    newline = data.source.id_of("\n")
    assert data.train[(1, 0)]["source"].tolist().count(newline) == 1


def test_no_dialogue_is_on_both_sides(tmp_path):
    rows = [{"t": [f"d{i}", f"d{i} x", f"d{i} y"]} for i in range(20)]
    data = made(jsonl(tmp_path / "a.jsonl", rows), turns_key="t", val="20%")
    train = {shown(data, i)[0].split()[0] for i in range(len(data.train))}
    val = {data.val.texts(i)["prompt"].split()[0] for i in range(len(data.val))}
    assert not train & val
    assert (len(train), len(val)) == (16, 4)


@pytest.mark.parametrize("overlong", ["truncate", "drop"])
def test_long_pairs_are_counted(lines, overlong):
    german, english = lines
    both = {"val": str(german), "val_target": str(english)}
    data = made(german, train_target=str(english), max_source=4, overlong=overlong, **both)
    lengths = [n % 7 + 1 for n in range(30)]
    long = [n for n in lengths if n > 3]
    counts = data.report["data.train"].counts
    if overlong == "drop":
        assert len(data.train) == 30 - len(long)
        assert counts["dropped"] == len(long)
        assert counts["dropped tokens"] == sum(n + 3 for n in long)
    else:
        assert len(data.train) == 30
        assert counts["truncated"] == len(long)
        assert counts["truncated tokens"] == sum(n - 3 for n in long)
    assert len(data.val) == 30
    for rows in (data.train.rows, data.val):
        for i in range(len(rows)):
            assert len(rows[i]["source"]) <= 4
            assert rows[i]["source"][-1] == data.source.eos_id
    assert data.report["data.train"].lengths["source"][4] == 7


def test_pairs_with_an_empty_side_are_left_out_and_counted(tmp_path):
    (tmp_path / "a").write_text("one\n\nthree\nfour\n")
    (tmp_path / "b").write_text("x\ny\n\nz\n")
    sides = {"train_target": str(tmp_path / "b"), "val": str(tmp_path / "a"),
             "val_target": str(tmp_path / "b")}  # fmt: skip
    data = made(tmp_path / "a", **sides)
    assert data.report["data.train"].counts["empty"] == 2
    assert data.val.texts(1) == {"prompt": "four", "references": ["z"]}


def test_copied_words_are_numbered_in_each_pair(tmp_path):
    rows = [{"source": "the the", "target": "the"}] * 2
    rows.append({"source": "Foo the Bar Foo Baz", "target": "Baz Foo Qux the"})
    path = jsonl(tmp_path / "a.jsonl", rows)
    settings = {"kind": "words", "min_count": 4}
    data = made(path, val=str(path), tokenizer=settings, copying=True, max_source=5)
    V, unk, the = data.source.vocab_size, data.source.unk_id, data.source.id_of("the")
    item = {key: values.tolist() for key, values in data.train[(2, 0)].items()}
    assert item["source"] == [unk, the, unk, unk, 2]
    assert item["source_copy"] == [V, the, V + 1, V, 2]  # Baz is beyond the cut
    assert item["target"] == [1, unk, unk, unk, the, 2]
    assert item["target_copy"] == [1, unk, V, unk, the, 2]
    assert data.spec.copy
    assert data.report["data.train"].unknown == 7


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abcdefg"), min_size=1), st.lists(st.sampled_from("abcdefgh")))
def test_copies_stand_for_the_words_of_the_source(source, target):
    tokenizer = Tokenizer.train(["a b c"], kind="words")
    ids, copies = tokenizer.copy_ids(" ".join(source), " ".join(target))
    new = list(dict.fromkeys(word for word in source if word not in "abc"))
    words = [*tokenizer.tokens, *new]
    assert [words[i] for i in ids] == source
    assert [words[i] for i in copies] == [
        w if w in "abc" or w in source else "<unk>" for w in target
    ]


def test_batches_are_padded_little_and_in_order(tmp_path):
    rows = [{"source": "w " * (1 + i * i % 50), "target": "v"} for i in range(300)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    spent = {}
    for bucketing in (True, False):
        data = made(path, val=str(path), bucketing=bucketing)
        lengths = getattr(data.train, "lengths", None)
        sampler = StepSampler(300, global_batch=10, seed=0, stop=30, lengths=lengths)
        batches = [data.train.collate([data.train[key] for key in keys]) for keys in sampler]
        spent[bucketing] = sum(batch["source"].numel() for batch in batches)
        assert sum(int((batch["source"] != 0).sum()) for batch in batches) == sum(
            1 + i * i % 50 + 1 for i in range(300)
        )
        for batch in batches:
            assert batch["target"].dtype == torch.int64
    assert spent[True] < 0.65 * spent[False]


@pytest.mark.parametrize(
    "name, content, options, message",
    [
        ("a.txt", "x\ny\n", {}, "a.txt:1: a plain line is no pair"),
        ("a.tsv", "x\ty\nz\n", {}, "a.tsv:2: no column 1 in 1"),
        ("a.jsonl", '{"source": "a"}\n', {}, "a.jsonl:1: no key 'target'"),
        ("a.jsonl", '{"source": 3, "target": "a"}\n', {}, "'source' is 3, not a text"),
        ("a.jsonl", '{"t": "a"}\n', {"turns_key": "t"}, "a.jsonl:1: 't' is no list of turns"),
        (
            "a.jsonl",
            '{"t": ["a"]}\n{"t": ["b"]}\n',
            {"turns_key": "t"},
            "there is no text to train a tokenizer on",
        ),
    ],
)
def test_records_that_are_no_pairs(tmp_path, name, content, options, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        made(tmp_path / name, tokenizer={"kind": "bpe", "vocab_size": 300}, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"copying": True, "tokenizer": {"kind": "bpe"}},
        {"copying": True, "target_tokenizer": WORDS},
        {"turns_key": "t", "train_target": "b"},
        {"pretext": "lead", "target_key": "b"},
        {"tokenizer": {"kind": "characters", "specials": "none"}},
    ],
)
def test_settings_that_do_not_fit(options):
    with pytest.raises(ValidationError):
        Config.model_validate({"train": "a", "tokenizer": WORDS, **options})
