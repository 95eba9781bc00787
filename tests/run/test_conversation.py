"""`aigc sample --chat`: streaming, commands, and conversations longer than the context."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from aigc_cli.models.text.chat import Config, Model, Options
from aigc_cli.run.conversation import Conversation, Stream, _overlap, chat
from aigc_cli.run.trained import Trained
from aigc_cli.specs.text import ChatSpec
from aigc_cli.text.tokenizer import SPECIALS, Tokenizer
from tests.run.conftest import Ending

Aigc = Callable[..., Ending]
TURNS = ("<|system|>", "<|user|>", "<|assistant|>")
CONTEXT = 40


def model() -> Model:
    letters = "abcdefghijklmnopqrstuvwxyz .äö猫"
    tokenizer = Tokenizer.train([letters], kind="characters", specials=(*SPECIALS, *TURNS))
    torch.manual_seed(0)
    config = Config(dim=16, num_layers=1, num_heads=2)
    return Model(config, ChatSpec(tokenizer.to_json(), CONTEXT, "turns")).eval()


def talked(
    lines: Sequence[str], *, system: str | None = None, seed: int = 0, **options: Any
) -> tuple[Conversation, str, list[str]]:
    made = model()
    recipe = type("Of", (), {"sample": Options(**{"max_tokens": 8, **options}), "family": "chat"})()
    trained = Trained(made, recipe, made.spec)
    said: list[str] = []
    notes: list[str] = []
    talk = chat(trained, lines, say=said.append, note=notes.append, system=system, seed=seed)
    return talk, "".join(said), notes


def test_answers_stream_and_are_remembered() -> None:
    talk, said, notes = talked(["hello", "", "more"], system="be brief")
    assert [m["role"] for m in talk.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    answers = [m["content"] for m in talk.messages if m["role"] == "assistant"]
    assert said == "".join(f"{answer}\n" for answer in answers)
    assert notes == []


def test_the_same_seed_says_the_same_and_an_answer_can_be_drawn_again() -> None:
    first, *_ = talked(["hello"])
    again, *_ = talked(["hello"])
    assert first.messages == again.messages
    other, *_ = talked(["hello", "/regenerate"])
    assert len(other.messages) == 2
    assert other.messages[0] == first.messages[0]
    assert other.messages[1] != first.messages[1]


def test_a_conversation_longer_than_the_context_goes_on() -> None:
    lines = [f"turn {word}" for word in ("one", "two", "three", "four", "five", "six")]
    talk, _, notes = talked(lines, system="be nice")
    assert len(talk.messages) == 13
    assert talk.messages[0] == {"role": "system", "content": "be nice"}
    assert notes
    assert all("old turns have no place" in note for note in notes)
    talk, _, notes = talked(["x" * CONTEXT, "short"])
    assert notes[0].startswith("error: the prompt 'xxxx")
    assert [m["content"] for m in talk.messages][:1] == ["short"]


def test_the_system_turn_is_kept_when_old_turns_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[list[str]] = []
    original = Model.conversation_ids

    def watched(self: Model, messages: Any) -> list[int]:
        ids = original(self, messages)
        read.append([m["content"] for m in messages])
        return ids

    monkeypatch.setattr(Model, "conversation_ids", watched)
    talked(["first words", "second words", "third words"], system="rule")
    assert all(contents[0] == "rule" for contents in read)
    assert read[-1][-1] == "third words"
    assert "first words" not in read[-1]


def test_conversations_are_saved_and_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    talk, _, notes = talked(["hello", f"/save {file}"])
    assert json.loads(file.read_text()) == {"messages": talk.messages}
    more, _, notes = talked([f"/load {file}", "more"])
    assert more.messages[:2] == talk.messages
    assert notes == ["2 turns"]
    empty, _, _ = talked([f"/load {file}", "/new"], system="rule")
    assert empty.messages == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("/sav", "/sav is no command; did you mean '/save'?"),
        ("/save", "/save needs the name of a file"),
        ("/load none.jsonl", "none.jsonl cannot be read"),
        ("/regenerate", "nothing was answered yet"),
        ("HELLO ⚀" * 20, "the prompt 'HELLO"),
    ],
)
def test_mistakes_are_one_sentence_and_the_conversation_goes_on(line: str, sentence: str) -> None:
    talk, _, notes = talked([line, "hello", "/quit", "never"])
    assert len(notes) == 1
    assert sentence in notes[0]
    assert [m["content"] for m in talk.messages][:1] == ["hello"]
    assert len(talk.messages) == 2


def test_a_stream_tells_no_half_character_and_no_part_of_a_stop() -> None:
    told: list[str] = []

    class Spelling:
        def text_of(self, row: int, ids: Sequence[int]) -> str:
            return bytes(ids).decode(errors="replace")

    stream = Stream(Spelling(), ["END"], told.append)  # type: ignore[arg-type]
    text = "a猫ENbEND".encode()
    for n in range(1, len(text) + 1):
        stream(0, text[:n])
    assert told == ["a", "猫", "ENb"]
    assert [_overlap(t, "abc") for t in ("x", "xa", "xab", "abcx", "aab")] == [0, 1, 2, 4, 2]


def test_the_command_talks_through_a_pipe(
    aigc: Aigc, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}
    (here / "chat.jsonl").write_text((json.dumps(row) + "\n") * 12)
    (here / "words.txt").write_text("hi ho\n" * 40)
    common = "trainer: {max_steps: 1, global_batch: 2, precision: fp32}"
    size = "model: {dim: 16, num_layers: 1, num_heads: 2}"
    (here / "chat.yaml").write_text(
        f"family: chat\nseed: 3\n{size}\n{common}\n"
        "data: {kind: chat, train: chat.jsonl, val: 20%, context: 32,"
        " tokenizer: {kind: characters, specials: chat}}\n"
    )
    (here / "lm.yaml").write_text(
        f"family: lm\nseed: 3\n{size}\n{common}\n"
        "data: {kind: text, train: words.txt, val: last 20%, context: 16}\n"
    )
    for name in ("chat", "lm"):
        ending = aigc("train", f"{name}.yaml", "--out", name, "--quiet")
        assert ending.code == 0, ending.err
    for arguments in ([], ["--json"]):
        monkeypatch.setattr("sys.stdin", io.StringIO("hi\n/quit\n"))
        ending = aigc("sample", "chat", "--chat", "--system", "hi", "max_tokens=3", *arguments)
        assert ending.code == 0, ending.err
        if arguments:
            assert [m["role"] for m in ending.json["messages"]] == ["system", "user", "assistant"]
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ending = aigc("sample", "lm", "--chat")
    assert ending.code == 2
    assert "family 'lm' was not trained on conversations" in ending.err
    ending = aigc("sample", "chat", "--input", "chat.jsonl", "--output", "out.jsonl")
    assert ending.code == 0, ending.err
    rows = [json.loads(line) for line in (here / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert {row["prompt"] for row in rows} == {"hi"}
