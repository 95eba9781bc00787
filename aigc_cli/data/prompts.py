"""Prompts to be answered, with what is asked for where that is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from aigc_cli.data._conversations import (
    ConversationConfig,
    ConversationData,
    Conversed,
    Message,
    conversation,
    fitted,
    reported,
)
from aigc_cli.data._example import CHAT_LETTERS, sentences, split_in_two, write_objects
from aigc_cli.data._rows import (
    Item,
    Shuffled,
    TextReport,
    built_to_fit,
    tensor,
)
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import Place, Record, field, strings
from aigc_cli.data._tokens import Tokens
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import PromptSpec
from aigc_cli.text.template import Template
from aigc_cli.text.tokenizer import Tokenizer


class Config(ConversationConfig):
    """Prompts, and where they are."""

    kind: Literal["prompts"] = "prompts"
    """Prompts to be answered."""
    prompt_key: Name | int | None = None
    """Where a prompt is: key of an object, column of a TSV; a list of texts is joined. Without it a
    plain line is a prompt, and a conversation up to its last answer, which is the reference.
    """
    reference_key: Name | int | None = None
    """Where the answer is that is asked for; of a list the first one."""


class Prompt(NamedTuple):
    messages: list[Message]
    reference: str | None


def read(place: Place, record: Record, config: Config) -> Prompt:
    """A prompt and its reference.

    Raises:
        DataError: the record has no such form.
    """
    reference = None
    if config.reference_key is not None:
        key = config.reference_key
        reference = next(iter(strings(field(record, key, place), key, place)), None)
    if config.prompt_key is not None or isinstance(record, str):
        key = config.prompt_key or 0
        text = " ".join(strings(field(record, key, place), key, place))
        return Prompt([{"role": "user", "content": text}], reference)
    messages = conversation(record, place)
    if messages and messages[-1]["role"] == "assistant":
        reference = reference or messages[-1]["content"]
        messages = messages[:-1]
    return Prompt(messages, reference)


class Prompts(Conversed[Prompt]):
    """Prompts of less than `context` tokens; longer and empty ones are left out."""

    left = frozenset({"prompt"})

    def __init__(self, tokens: Tokens, tokenizer: Tokenizer, config: Config) -> None:
        self.tokens = tokens
        self.pads = {"prompt": tokenizer.pad_id or 0, "reference": tokenizer.pad_id or 0}
        sizes = tokens.lengths.reshape(-1, 2)
        kept = (sizes[:, 0] > 0) & (sizes[:, 0] < config.context)
        self.numbers = np.nonzero(kept)[0]
        self.referenced = bool(sizes[:, 1].any())
        self.counts = {
            "empty": int((sizes[:, 0] == 0).sum()),
            "dropped": int((sizes[:, 0] >= config.context).sum()),
            "dropped tokens": int(sizes[~kept, 0].sum()),
        }

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Item:
        """prompt (P,), and reference (R,) where any item has one."""
        row = 2 * int(self.numbers[index])
        item = {"prompt": tensor(self.tokens[row])}
        return item | ({"reference": tensor(self.tokens[row + 1])} if self.referenced else {})

    def texts(self, index: int) -> dict[str, object]:
        """The turns to be answered, the last of them as a prompt, and the reference."""
        messages, reference = self.behind[index]
        return {
            "prompt": messages[-1]["content"],
            "messages": messages,
            "references": [] if reference is None else [reference],
        }


class Data(ConversationData[Prompt]):
    """Prompts and their references, which both parts have or neither."""

    spec_type = PromptSpec
    what = "prompts"
    keys = ("prompt_key", "reference_key")

    def read(self, place: Place, record: Record, config: Config) -> Prompt:
        return read(place, record, config)

    def words(self, item: Prompt) -> Iterator[str]:
        yield from (turn["content"] for turn in item.messages)
        yield from [] if item.reference is None else [item.reference]

    def encode(self, item: Prompt, template: Template) -> tuple[list[int], list[int]]:
        """The prompt with what begins an answer, and the reference."""
        ids, _ = template.encode(item.messages, self.tokenizer, answer=True)
        empty = not any(turn["content"].strip() for turn in item.messages)
        return [] if empty else ids, self.tokenizer.encode(item.reference or "")

    def rows(self, tokens: Tokens, config: Config, *, training: bool) -> Prompts:
        return Prompts(tokens, self.tokenizer, config)

    def shuffled(self, rows: Prompts, config: Config) -> Shuffled[Prompts]:
        assert isinstance(self.val, Prompts)
        if rows.referenced != self.val.referenced:
            raise DataError("of data.train and data.val only one has references")
        return Shuffled(rows)

    def reported(self, name: str, rows: Prompts) -> TextReport:
        lengths = rows.tokens.lengths.reshape(-1, 2)
        sides = {"prompt": lengths[:, 0], "reference": lengths[:, 1]}
        return reported(name, "prompts", rows, self.tokenizer, sides)

    def examples(self, count: int) -> Iterator[str]:
        """Training prompts as text, with special tokens by name, and their references."""
        for index in range(min(count, len(self.train))):
            item = self.train.rows[index]
            shown = self.tokenizer.show(item["prompt"].tolist())
            asked = self.tokenizer.show(item["reference"].tolist()) if "reference" in item else ""
            yield f"{shown}\n=> {asked}" if asked else shown


def example(folder: Path) -> dict[str, Any]:
    """Prompts with what is asked for."""
    rows = [
        {"prompt": subject, "completion": rest} for subject, rest in map(split_in_two, sentences())
    ]
    write_objects(folder / "prompts.jsonl", rows)
    return {"kind": "prompts", "train": str(folder / "prompts.jsonl"), "val": "20%",
            "tokenizer": CHAT_LETTERS, "context": 40, "cache": "off"}  # fmt: skip


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """As `fitted`, and as much again for the answer. Raises: as `Data`."""
    data, vocabulary = built_to_fit(lambda config: Data(config, seed=0, bases=bases), config)
    return fitted(data.report["data.train"], config, answered="prompt") | vocabulary
