"""Conversations, of which the assistant's words are learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator

from aigc_cli.data._claim import MARKED, Claim, columns, first_records, parts
from aigc_cli.data._conversations import (
    ConversationConfig,
    ConversationData,
    Conversed,
    Message,
    conversation,
    fitted,
    marked,
    reported,
    until_answer,
)
from aigc_cli.data._example import CHAT_LETTERS, sentences, split_in_two, write_objects
from aigc_cli.data._rows import (
    Item,
    Shuffled,
    TextReport,
    built_to_fit,
    next_tokens,
    pack,
)
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import Place, Record
from aigc_cli.data._tokens import Tokens
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import IGNORE, ChatSpec
from aigc_cli.text.template import Template
from aigc_cli.text.tokenizer import Tokenizer

FORMS = (("messages",), ("conversations",), ("instruction", "output"), ("prompt", "completion"))
"""Keys by which conversations are recognized."""


class Config(ConversationConfig):
    """Conversations, and how they come into rows."""

    kind: Literal["chat"] = "chat"
    """Conversations."""
    turns_key: Name | None = None
    """Key of a list of turns, where records have no roles: user and assistant take turns."""
    columns: tuple[Name | int, ...] = ()
    """Keys, or numbers of columns, of what user and assistant say in turn: [question, answer] or
    [0, 1].
    """
    packing: Literal["isolated", "none"] = "isolated"
    """isolated: several conversations in a row, which do not see each other; none: one in a row."""
    overlong: Literal["truncate", "drop"] = "truncate"
    """What becomes of training conversations longer than `context`; those that validate are cut."""

    @model_validator(mode="after")
    def _one_form(self) -> Config:
        if self.turns_key is not None and self.columns:
            raise ValueError("turns_key and columns do not go together")
        return self


class Conversations(Conversed[list[Message]]):
    """Conversations of at most `context` tokens, several in a row where `packed`."""

    def __init__(
        self, tokens: Tokens, tokenizer: Tokenizer, config: Config, *, packed: bool, drop: bool
    ) -> None:
        self.tokens, self.context, self.packed = tokens, config.context, packed
        self.pads = {"tokens": tokenizer.pad_id or 0, "target": IGNORE, "document": 0}
        whole = np.maximum(tokens.lengths[::2] - 1, 0)
        long = whole > self.context
        sizes = np.minimum(whole, self.context)
        learned = np.array([self._learns(n, int(size)) for n, size in enumerate(sizes)], bool)
        kept = learned & ~long if drop else learned
        self.numbers = np.nonzero(kept)[0]
        self.sizes = sizes[kept]
        self.rows = (
            pack(self.sizes, self.context) if packed else [[n] for n in range(len(self.sizes))]
        )
        cut = long & kept
        self.counts = {
            "rows": len(self.rows),
            "without an answer": int((whole == 0).sum()),
            "truncated": int(cut.sum()),
            "truncated tokens": int((whole - sizes)[cut].sum()),
            "dropped": int((~kept & (whole > 0)).sum()),
            "dropped tokens": int(whole[~kept].sum()),
        }
        if packed:
            self.counts["padding"] = len(self.rows) * self.context - int(self.sizes.sum())

    def _learns(self, number: int, size: int) -> bool:
        return bool(self.tokens[2 * number + 1][1 : size + 1].any())

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) tokens, where a row is one conversation."""
        return self.sizes

    def __len__(self) -> int:
        return len(self.rows)

    def one(self, index: int) -> Item:
        """tokens and target of a conversation."""
        row, size = 2 * int(self.numbers[index]), int(self.sizes[index])
        ids, learned = (self.tokens[row + side][: size + 1] for side in (0, 1))
        tokens, target = next_tokens(ids, learned)
        return {"tokens": tokens, "target": target}

    def __getitem__(self, index: int) -> Item:
        """tokens and target (T,); when packed also document, and T is `context`."""
        items = [self.one(n) for n in self.rows[index]]
        if not self.packed:
            return items[0]
        sizes = torch.tensor([len(item["tokens"]) for item in items])
        short = self.context - int(sizes.sum())
        joined = {key: torch.cat([item[key] for item in items]) for key in items[0]}
        joined["document"] = torch.repeat_interleave(torch.arange(len(items)), sizes)
        pads = {**self.pads, "document": len(items)}
        return {key: F.pad(values, (0, short), value=pads[key]) for key, values in joined.items()}

    def texts(self, index: int) -> dict[str, object]:
        """The turns before the last answer, the last of them as a prompt, and that answer."""
        *before, answer = self.behind[index]
        return {
            "prompt": before[-1]["content"] if before else "",
            "messages": before,
            "references": [answer["content"]],
        }


class Data(ConversationData[list[Message]]):
    """Conversations, packed into rows."""

    spec_type = ChatSpec
    what = "conversations with a turn of assistant"
    keys = ("turns_key", "columns")

    def read(self, place: Place, record: Record, config: Config) -> list[Message]:
        """A conversation up to its last answer; nothing when it has none."""
        return until_answer(conversation(record, place, config.turns_key, config.columns))

    def words(self, item: list[Message]) -> Iterator[str]:
        return (turn["content"] for turn in item)

    def encode(self, item: list[Message], template: Template) -> Sequence[Sequence[int]]:
        """Ids, and 1 where they are learned."""
        return template.encode(item, self.tokenizer) if item else ((), ())

    def rows(self, tokens: Tokens, config: Config, *, training: bool) -> Conversations:
        packed = training and config.packing == "isolated"
        drop = training and config.overlong == "drop"
        return Conversations(tokens, self.tokenizer, config, packed=packed, drop=drop)

    def shuffled(self, rows: Conversations, config: Config) -> Shuffled[Conversations]:
        return Shuffled(rows, None if rows.packed else rows.lengths)

    def reported(self, name: str, rows: Conversations) -> TextReport:
        learned = sum(int(ids.sum()) for ids in rows.tokens.chunks(slice(1, None, 2)))
        lengths, counts = {"tokens": rows.tokens.lengths[::2]}, {"learned": learned}
        return reported(
            name, "conversations", rows, self.tokenizer, lengths, every=2, counts=counts
        )

    def examples(self, count: int) -> Iterator[str]:
        """Training rows as text; what is learned stands in ⟦ ⟧."""
        for index in range(min(count, len(self.train))):
            yield marked(self.tokenizer, self.train.rows[index])


def example(folder: Path) -> dict[str, Any]:
    """Conversations of two turns."""
    turns = [
        [{"role": "user", "content": subject}, {"role": "assistant", "content": rest}]
        for subject, rest in map(split_in_two, sentences())
    ]
    write_objects(folder / "chat.jsonl", ({"messages": messages} for messages in turns))
    return {"kind": "chat", "train": str(folder / "chat.jsonl"), "val": "20%",
            "tokenizer": CHAT_LETTERS, "context": 40, "cache": "off"}  # fmt: skip


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Records in one of the forms of conversations, or with turns that have no roles."""
    values: dict[str, Any] = dict(parts(source, bases))
    records = first_records(values["train"], bases)
    found = columns(records)
    rest = {key for key in ("turns", "dialog", "dialogue", "utterances") if _are_turns(found, key)}
    if rest:
        key = min(rest)
        return Claim({**values, "turns_key": key}, f"turns under {key!r}", MARKED)
    for form in (
        ("messages",),
        ("conversations",),
        ("instruction", "output"),
        ("prompt", "completion"),
    ):
        if all(key in found for key in form) and "chosen" not in found:
            keys = " and ".join(map(repr, form))
            return Claim(values, f"conversations: records with {keys}", MARKED)
    return None


def _are_turns(found: dict[str | int, list[Any]], key: str) -> bool:
    return key in found and all(isinstance(turns, list) and turns for turns in found[key])


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """As `fitted`. Raises: as `Data`."""
    data, vocabulary = built_to_fit(lambda config: Data(config, seed=0, bases=bases), config)
    return fitted(data.report["data.train"], config) | vocabulary
