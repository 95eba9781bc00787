"""Conversations of every form: only answers are learned, whole, and each counted."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from aigc_cli.data import chat, preferences, prompts
from aigc_cli.data._conversations import conversation
from aigc_cli.data._text_files import Place
from aigc_cli.errors import DataError
from aigc_cli.specs.text import IGNORE

PLACE = Place("f", 1)
CHARACTERS = {"kind": "characters", "specials": "chat"}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def made(kind, train: Path, **options: object):
    text = json.dumps({"train": str(train), "tokenizer": CHARACTERS, **options})
    return kind.Data(kind.Config.model_validate_json(text), seed=0)


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_of_a_table_are_turns(tmp_path: Path) -> None:
    tsv, csv = tmp_path / "a.tsv", tmp_path / "a.csv"
    tsv.write_text("q\ta\tby eve\n" * 4)
    csv.write_text("answer,question\n" + "a,q\n" * 4)
    for train, columns in ((tsv, [0, 1]), (csv, ["question", "answer"])):
        data = made(chat, train, columns=columns, val="25%", context=16)
        assert data.val.texts(0) == {"prompt": "q", "messages": [user("q")], "references": ["a"]}
    with pytest.raises(DataError, match=r"a\.tsv:1: .*3"):
        made(chat, tsv, columns=[0, 3])
    with pytest.raises(ValueError, match="turns_key and columns do not go together"):
        made(chat, tsv, columns=[0, 1], turns_key="turns")


@pytest.mark.parametrize(
    "record, expected",
    [
        ({"messages": [user("q"), assistant("a")]}, [user("q"), assistant("a")]),
        (
            {"conversations": [{"from": "system", "value": "s"}, {"from": "human", "value": "q"},
                               {"from": "gpt", "value": "a"}]},
            [{"role": "system", "content": "s"}, user("q"), assistant("a")],
        ),
        (
            {"instruction": "do", "input": "this", "output": "done", "history": [["q", "a"]]},
            [user("q"), assistant("a"), user("do\nthis"), assistant("done")],
        ),
        ({"instruction": "do", "input": "", "output": "done"}, [user("do"), assistant("done")]),
        ({"prompt": "q", "completion": "a"}, [user("q"), assistant("a")]),
        (
            {"messages": [
                {"role": "developer", "content": [{"type": "text", "text": "be "},
                                                  {"type": "text", "text": "brief"}]},
                {"role": "user", "content": [{"type": "text", "text": "q"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
                {"role": "tool", "content": "4", "tool_call_id": "1"},
                assistant("a"),
            ]},
            [{"role": "system", "content": "be brief"}, user("q"), assistant(""),
             {"role": "tool", "content": "4"}, assistant("a")],
        ),
    ],
)  # fmt: skip
def test_forms_of_a_conversation(record, expected):
    assert conversation(record, PLACE) == expected


def test_turns_alternate():
    record = {"turns": [["USER", "a"], ["SYSTEM", "b"], ["USER", "c"]]}
    assert conversation(record, PLACE, "turns") == [user("a"), assistant("b"), user("c")]


@pytest.mark.parametrize(
    "record, message",
    [
        ("line", "f:1: no JSON object"),
        ({"text": "x"}, "f:1: no conversation; keys: text"),
        ({"messages": "x"}, "f:1: 'messages' is no list of turns"),
        ({"messages": ["x"]}, "f:1: a turn is no object with role and content"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "f:1: role 'robot' is not known"),
        ({"messages": [{"role": "user"}]}, "f:1: a turn has no text under 'content'"),
        ({"messages": [{"role": "user", "content": None}]}, "f:1: a turn has no text under"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "f:1: a part of a turn is 'image_url' and no text",
        ),
        ({"instruction": 3}, "f:1: 'instruction' is no text"),
    ],
)
def test_records_that_are_no_conversations(record, message):
    with pytest.raises(DataError, match=message):
        conversation(record, PLACE)


@pytest.fixture
def talks(tmp_path) -> Path:
    """40 conversations of 1 to 3 exchanges, with letters only."""
    draw = random.Random(0)

    def text() -> str:
        return "".join(draw.choices("abcde", k=draw.randint(1, 9)))

    rows = []
    for _ in range(40):
        exchanges = [(user(text()), assistant(text())) for _ in range(draw.randint(1, 3))]
        rows.append({"messages": [turn for pair in exchanges for turn in pair]})
    return jsonl(tmp_path / "talks.jsonl", rows)


def answers(path: Path) -> list[list[str]]:
    rows = map(json.loads, path.read_text().splitlines())
    return [[m["content"] for m in row["messages"] if m["role"] == "assistant"] for row in rows]


@pytest.mark.parametrize("packing", ["isolated", "none"])
def test_answers_and_their_ends_are_learned_and_nothing_else(talks, packing):
    data = made(chat, talks, packing=packing, context=128, val=str(talks))
    found = []
    for i in range(len(data.train)):
        item = data.train[(i, 0)]
        numbers = item.get("document", torch.zeros_like(item["tokens"]))
        for number in numbers.unique():
            here = numbers == number
            tokens, target = item["tokens"][here], item["target"][here]
            learned = target != IGNORE
            assert torch.equal(target[:-1][learned[:-1]], tokens[1:][learned[:-1]])
            if learned.any():
                assert tokens[0] == data.tokenizer.bos_id
                text = data.tokenizer.show(target[learned].tolist())
                found.append(text.removesuffix("<eos>").split("<eos>"))
                assert text.endswith("<eos>")
    assert sorted(found) == sorted(answers(talks))
    assert data.report["data.train"].counts["learned"] == sum(
        len(text) + 1 for texts in answers(talks) for text in texts
    )


@pytest.mark.parametrize("overlong", ["truncate", "drop"])
def test_long_conversations_are_counted(talks, overlong):
    context = 20
    data = made(chat, talks, context=context, overlong=overlong, val=str(talks))
    rows = [json.loads(line)["messages"] for line in talks.read_text().splitlines()]
    # bos, and for each turn its mark, its characters and eos; the last has no successor
    sizes = [sum(len(m["content"]) + 2 for m in messages) for messages in rows]
    first = [len(m[0]["content"]) + 3 for m in rows]  # what comes before the first answer
    usable = [n for n, start in zip(sizes, first, strict=True) if start < context]
    counts = data.report["data.train"].counts
    long = [n for n in usable if n > context]
    if overlong == "truncate":
        assert counts["truncated"] == len(long)
        assert counts["truncated tokens"] == sum(n - context for n in long)
        assert counts["dropped"] == len(sizes) - len(usable)
    else:
        assert counts["truncated"] == 0
        assert counts["dropped"] == sum(n > context for n in sizes)
    held = sum(len(row) for row in data.train.rows.rows)
    assert held == len(sizes) - counts["dropped"]
    assert counts["rows"] * context == counts["padding"] + int(data.train.rows.sizes.sum())
    assert len(data.val) == len(usable)


def test_validation_gives_the_turns_before_the_last_answer(talks):
    data = made(chat, talks, val="last 10%")
    messages = json.loads(talks.read_text().splitlines()[36])["messages"]
    assert data.val.texts(0) == {
        "prompt": messages[-2]["content"],
        "messages": messages[:-1],
        "references": [messages[-1]["content"]],
    }
    assert "document" not in data.val[0]


def test_what_is_learned_is_marked(tmp_path):
    rows = [{"messages": [user("ab"), assistant("ba"), user("left out")]}] * 2
    data = made(chat, jsonl(tmp_path / "a.jsonl", rows), context=32)
    assert list(data.examples(5)) == ["<bos><|user|>ab<eos><|assistant|>⟦ba<eos>⟧"]


def test_a_file_without_answers(tmp_path):
    rows = [{"messages": [user("ab")]}, {"messages": [user("b")]}]
    match = r"no conversations with a turn of assistant in '.*a\.jsonl'"
    with pytest.raises(DataError, match=match):
        made(chat, jsonl(tmp_path / "a.jsonl", rows))


def test_a_tokenizer_without_the_marks_of_the_template(talks):
    with pytest.raises(DataError, match=r"data\.template: template turns needs the token <\|") as e:
        made(chat, talks, tokenizer={"kind": "characters", "specials": "texts"})
    assert "data.template=text" in e.value.hint
    assert len(made(chat, talks, tokenizer={"kind": "characters"}, template="text").train)
    assert len(made(chat, talks, tokenizer={"kind": "characters"}).train)  # chat by default


def pairs() -> list[dict[str, object]]:
    prompt = [{"from": "human", "value": "ask"}]
    good, bad = assistant("good one"), assistant("bad")
    return [
        {"conversations": prompt, "chosen": {"from": "gpt", "value": "good one"},
         "rejected": {"from": "gpt", "value": "bad"}},
        {"prompt": "ask", "chosen": "good one", "rejected": "bad"},
        {"prompt": [user("ask")], "chosen": [good], "rejected": [bad]},
        {"chosen": [user("ask"), good], "rejected": [user("ask"), bad]},
    ]  # fmt: skip


@pytest.mark.parametrize("form", range(4))
def test_preferences_of_every_form(tmp_path, form):
    data = made(preferences, jsonl(tmp_path / "a.jsonl", [pairs()[form]] * 3), context=64)
    assert list(data.examples(1)) == [
        "chosen: <bos><|user|>ask<eos><|assistant|>⟦good one<eos>⟧\n"
        "rejected: <bos><|user|>ask<eos><|assistant|>⟦bad<eos>⟧"
    ]
    batch = data.train.collate([data.train[(i, 0)] for i in (0, 1)])
    assert {values.shape for values in batch.values()} == {(2, 15)}
    for side in ("chosen", "rejected"):
        learned = batch[f"{side}_target"] != IGNORE
        shifted = batch[side].roll(-1, 1)
        inside = learned & (batch[f"{side}_target"] != data.tokenizer.eos_id)
        assert torch.equal(batch[f"{side}_target"][inside], shifted[inside])
    assert data.val.texts(0) == {
        "prompt": "ask",
        "messages": [user("ask")],
        "references": ["good one"],
        "rejected": "bad",
    }


def test_only_the_last_answer_is_compared(tmp_path):
    row = {"prompt": [user("a"), assistant("b"), user("c")], "chosen": "d", "rejected": "e"}
    data = made(preferences, jsonl(tmp_path / "a.jsonl", [row] * 2), context=64)
    assert "⟦d<eos>⟧" in next(data.examples(1))
    assert next(data.examples(1)).count("⟦") == 2


def test_preferences_that_are_cut(tmp_path):
    rows = [{"prompt": "a" * n + "z", "chosen": "b" * 9, "rejected": "c"} for n in (0, 4, 8, 29)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    data = made(preferences, path, context=16, val=str(path))
    # bos, mark, n, z, eos, mark, 9, eos without the last: n + 14 positions; n + 6 of the other side
    counts = data.report["data.train"].counts
    assert counts["truncated"] == counts["truncated prompts"] == 3
    cuts = [4 + 5 - 8, 8 + 5 - 8, 29 + 5 - 8]  # prompts have 8 of 16 tokens
    assert counts["truncated tokens"] == sum(2 * n for n in cuts) + 3  # and each better answer 1
    assert counts["dropped"] == 0
    for n in range(4):
        shown = dict(line.split(": ") for line in [*data.examples(4)][n].splitlines())
        prompt, answer = shown["chosen"].removesuffix("⟧").split("⟦")
        assert shown["rejected"] == f"{prompt}⟦c<eos>⟧"
        assert prompt.startswith("<bos>")
        assert prompt.endswith("z<eos><|assistant|>")
        item = data.train.rows[n]
        assert (item["chosen_target"] != IGNORE).nonzero()[0] + 1 <= 8
        assert answer.startswith("bbbbbbbbb")
    held = data.report["data.val"].counts
    assert (held["truncated"], held["truncated prompts"], held["dropped"]) == (2, 0, 1)
    dropped = made(preferences, path, context=16, val=str(path), overlong="drop")
    assert (len(dropped.train), len(dropped.val)) == (1, 3)


@pytest.mark.parametrize(
    "row, message",
    [
        ({"prompt": "a", "chosen": "b"}, r"a\.jsonl:1: no key 'rejected'"),
        (
            {"prompt": "a", "chosen": [user("b")], "rejected": "c"},
            "'chosen' does not end with a turn",
        ),
        ({"chosen": "b", "rejected": "c"}, "no conversation"),
    ],
)
def test_records_that_are_no_preferences(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        made(preferences, jsonl(tmp_path / "a.jsonl", [row] * 2))


def test_prompts_are_padded_on_the_left(tmp_path):
    rows = [{"instruction": "a" * n, "output": "b" * n} for n in (1, 2, 3)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    data = made(prompts, path, val=str(path))
    batch = data.train.collate([data.train[(i, 0)] for i in range(3)])
    show = data.tokenizer.show
    assert [show(row) for row in batch["prompt"].tolist()] == [
        f"{'<pad>' * (3 - n)}<bos><|user|>{'a' * n}<eos><|assistant|>" for n in (1, 2, 3)
    ]
    assert [show(row) for row in batch["reference"].tolist()] == [
        "b" * n + "<pad>" * (3 - n) for n in (1, 2, 3)
    ]
    assert data.val.texts(2) == {
        "prompt": "aaa",
        "messages": [user("aaa")],
        "references": ["bbb"],
    }


def test_prompts_of_lines_and_keys(tmp_path):
    (tmp_path / "a.txt").write_text("ab\n\n" + "b" * 40 + "\nba\n")
    data = made(prompts, tmp_path / "a.txt", val=str(tmp_path / "a.txt"), context=32)
    assert list(data.examples(9)) == [
        f"<bos><|user|>{text}<eos><|assistant|>" for text in ("ab", "ba")
    ]
    assert data.report["data.train"].counts["empty"] == 1
    assert data.report["data.train"].counts["dropped"] == 1
    assert set(data.train[(0, 0)]) == {"prompt"}
    path = jsonl(tmp_path / "b.jsonl", [{"s": ["a", "b"], "t": ["c", "d"]}] * 2)
    data = made(prompts, path, prompt_key="s", reference_key="t")
    assert data.val.texts(0)["prompt"] == "a b"
    assert data.val.texts(0)["references"] == ["c"]


@pytest.mark.parametrize("kind", [chat, preferences, prompts])
def test_a_second_time_the_rows_are_those_of_the_cache(tmp_path, kind, monkeypatch):
    rows = [{"prompt": "ab", "completion": "c", "chosen": "d", "rejected": "e"}] * 4
    path = jsonl(tmp_path / "a.jsonl", rows)
    first = made(kind, path)
    monkeypatch.setattr("aigc_cli.text.template.Template.encode", None)
    again = made(kind, path)
    for key, values in first.train[(0, 0)].items():
        assert torch.equal(values, again.train[(0, 0)][key])
