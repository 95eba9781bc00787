"""Records as conversations: turns with a role and words, whatever a file calls them.

| record                                                      | known as          |
|-------------------------------------------------------------|-------------------|
| `{"messages": [{"role": "user", "content": "..."}, ...]}`   | OpenAI, TRL       |
| `{"conversations": [{"from": "human", "value": "..."}]}`    | ShareGPT          |
| `{"instruction", "input", "output", "system", "history"}`   | Alpaca            |
| `{"prompt": "...", "completion": "..."}`                    | prompt and answer |
| a list of turns under `turns_key`, user and assistant       | dialogues         |
| `columns` of a table or keys, what both say in turn         | CSV, TSV          |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field

from aigc_cli.data._cache import cache_folder
from aigc_cli.data._rows import (
    Item,
    Rows,
    Shuffled,
    TextData,
    TextPart,
    TextReport,
    TextsConfig,
    counted,
    open_parts,
    quantiles,
    require_items,
)
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import Place, Record, Texts, field, strings, turns
from aigc_cli.data._tokens import ChatTokenizerConfig, Piece, Tokens, find_tokenizer, token_file
from aigc_cli.errors import DataError, InputError
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import IGNORE, ChatSpec, PreferenceSpec, PromptSpec
from aigc_cli.text.template import Template, find_template
from aigc_cli.text.tokenizer import Tokenizer

T = TypeVar("T")
Message = dict[str, str]

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}


class ConversationConfig(TextsConfig):
    """Settings of every kind of data that is made of conversations."""

    tokenizer: ChatTokenizerConfig = ChatTokenizerConfig()
    """How texts become tokens; with init_from that of the model, by `from`."""
    template: Literal["turns", "chatml", "text", "llama3", "smollm2", "qwen2", "qwen2.5"] = "turns"
    """How turns become one text: turns marks them by tokens of `specials: chat`, chatml by those of
    Qwen, text by words, for any model; with init_from of a chat model, that of the model.
    """
    context: int = Field(512, ge=4, le=1 << 20)
    """Most tokens in a row."""


def message(value: Any, place: Place) -> Message:
    """One turn, of either form.

    Raises:
        DataError: it is none, or has a role that is not known.
    """
    for role, content in (("role", "content"), ("from", "value")):
        if isinstance(value, dict) and isinstance(value.get(role), str):
            if value[role] not in _ROLES:
                raise DataError(
                    f"{place}: role {value[role]!r} is not known",
                    hint=f"choose from: {', '.join(_ROLES)}",
                )
            said = value.get(content)
            if said is None and "tool_calls" in value:
                said = ""  # a turn that only asks a tool
            return {"role": _ROLES[value[role]], "content": _joined(said, content, place)}
    raise DataError(f"{place}: a turn is no object with role and content, or from and value")


def _joined(said: Any, key: str, place: Place) -> str:
    """A text, or a list of parts that are texts as one text.

    Raises:
        DataError: it is neither, or a part is something else, such as an image.
    """
    if isinstance(said, str):
        return said
    if not isinstance(said, list):
        raise DataError(f"{place}: a turn has no text under {key!r}")
    for part in said:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else part
            raise DataError(
                f"{place}: a part of a turn is {kind!r:.40} and no text",
                hint="parts are {type: text, text: ...}",
            )
    return "".join(part["text"] for part in said)


def conversation(
    record: Record, place: Place, turns_key: Name | None = None, columns: Sequence[Name | int] = ()
) -> list[Message]:
    """The turns of a record.

    Raises:
        DataError: it has none of the forms above.
    """
    if turns_key is not None or columns:
        said = (
            turns(record, turns_key, place)
            if turns_key is not None
            else ["\n".join(strings(field(record, key, place), key, place)) for key in columns]
        )
        return [
            {"role": "assistant" if i % 2 else "user", "content": text}
            for i, text in enumerate(said)
        ]
    if not isinstance(record, dict):
        raise DataError(f"{place}: no JSON object, as conversations are")
    for key in ("messages", "conversations"):
        if key in record:
            if not isinstance(record[key], list):
                raise DataError(f"{place}: {key!r} is no list of turns")
            return [message(turn, place) for turn in record[key]]
    if "instruction" in record:
        return _alpaca(record, place)
    if "prompt" in record:
        both = (("user", "prompt"), ("assistant", "completion"))
        return [_said(role, record, key, place) for role, key in both if key in record]
    raise DataError(
        f"{place}: no conversation; keys: {', '.join(map(str, record))}",
        hint="expected messages, conversations, instruction or prompt; or set data.turns_key or "
        "data.columns",
    )


def _alpaca(record: dict[str, Any], place: Place) -> list[Message]:
    made = [_said("system", record, "system", place)] if record.get("system") else []
    for pair in record.get("history") or []:
        said = turns({"history": pair}, "history", place)
        made += [
            {"role": role, "content": text}
            for role, text in zip(("user", "assistant"), said, strict=False)
        ]
    asked = _said("user", record, "instruction", place)
    if record.get("input"):
        asked["content"] += "\n" + _said("user", record, "input", place)["content"]
    return [
        *made,
        asked,
        *([_said("assistant", record, "output", place)] if "output" in record else []),
    ]


def _said(role: str, record: dict[str, Any], key: str, place: Place) -> Message:
    if not isinstance(record[key], str):
        raise DataError(f"{place}: {key!r} is no text")
    return {"role": role, "content": record[key]}


def until_answer(messages: Sequence[Message]) -> list[Message]:
    """The turns to the last one of the assistant; none when there is none."""
    last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=-1)
    return list(messages[: last + 1])


class Conversed(Rows, Generic[T]):
    """Items of conversations as tokens, and what became of them."""

    tokens: Tokens
    numbers: np.ndarray
    """Numbers of the records that became items."""
    counts: dict[str, int]


class ConversationData(TextData, ABC, Generic[T]):
    """Training and validation items of type T, all encoded when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, and tokenizer, context and template are those of the model.

    Raises:
        DataError: a source is absent, empty or has no items, or the tokenizer lacks the tokens of
            the template.
        MissingError: a source needs a package that is not installed.
    """

    spec_type: ClassVar[type[ChatSpec | PreferenceSpec | PromptSpec]]
    what: ClassVar[str]
    """The items in the plural, for messages."""
    keys: ClassVar[tuple[str, ...]] = ()
    """Keys of the config that decide how a record is read."""

    @abstractmethod
    def read(self, place: Place, record: Record, config: Any) -> T:
        """What a record says.

        Raises:
            DataError: it has no such form.
        """

    @abstractmethod
    def words(self, item: T) -> Iterator[str]:
        """The texts in an item, from which a tokenizer learns."""

    @abstractmethod
    def encode(self, item: T, template: Template) -> Sequence[Sequence[int]]:
        """An item as rows of ids, always as many."""

    @abstractmethod
    def rows(self, tokens: Tokens, config: Any, *, training: bool) -> Conversed[T]:
        """The items behind the rows of all records."""

    @abstractmethod
    def shuffled(self, rows: Any, config: Any) -> Shuffled[Any]:
        """The training rows in the order of a sampler."""

    @abstractmethod
    def reported(self, name: str, rows: Any) -> TextReport:
        """What is in a part."""

    def __init__(
        self,
        config: Any,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: ChatSpec | PreferenceSpec | PromptSpec | None = None,
    ) -> None:
        cache = cache_folder(config.cache)

        def items(texts: Texts) -> Iterator[T]:
            return (self.read(place, record, config) for place, record in texts.records())

        parts = open_parts(
            config, bases, items, self.what,
            key=[getattr(config, key) for key in self.keys], val_only=spec is not None,
        )  # fmt: skip
        for key, part in parts.items():
            if not any(part):
                raise DataError(f"{key}: no {self.what} in {part.name!r}")
        if spec is None:
            trains = parts["data.train"]
            tokenizer = find_tokenizer(
                config.tokenizer, lambda: (text for item in trains for text in self.words(item)),
                source=trains.name, key=[config.kind, *trains.key], cache=cache, bases=bases,
            )  # fmt: skip
            spec = self.spec_type(tokenizer.to_json(), config.context, config.template)
        self.spec, self.tokenizer = spec, Tokenizer.from_json(spec.tokenizer)
        config = config.model_copy(update={"context": spec.context, "template": spec.template})
        template = checked_template(spec.template, self.tokenizer)
        rows = {
            key: self.rows(
                self._encoded(part, template, config, cache), config, training=key == "data.train"
            )
            for key, part in parts.items()
        }
        self.val = rows["data.val"]
        self.val.keep(parts["data.val"], self.val.numbers)
        if (train := rows.get("data.train")) is not None:
            self.train = self.shuffled(train, config)
        reports = {key: self.reported(parts[key].name, one) for key, one in rows.items()}
        self.report = require_items(rows, reports, parts)

    def _encoded(
        self, part: TextPart[T], template: Template, config: Any, cache: Path | None
    ) -> Tokens:
        """The rows that `encode` makes of each item."""

        def rows() -> Iterator[Piece]:
            for item in part:
                yield from ((ids, True) for ids in self.encode(item, template))

        key = [self.tokenizer.digest, config.kind, template.jinja, *part.key]
        return token_file(cache, key, self.tokenizer.vocab_size, rows)


def checked_template(name: str, tokenizer: Tokenizer) -> Template:
    """The template of a name, whose tokens the tokenizer has.

    Raises:
        DataError: it has not.
    """
    template = find_template(name)
    try:
        template.check(tokenizer)
    except InputError as error:
        raise DataError(f"data.template: {error.message}", hint=error.hint) from error
    return template


def reported(
    name: str,
    what: str,
    rows: Conversed[Any],
    tokenizer: Tokenizer,
    sides: Mapping[str, np.ndarray],
    *,
    every: int = 1,
    counts: Mapping[str, int] | None = None,
) -> TextReport:
    """What is in a part: of the rows of tokens each `every`-th is text, the others say what of it
    is learned; `sides` are lengths (items,).
    """
    tokens, size, unknown = counted(tokenizer, rows.tokens, slice(0, None, every))
    items = len(next(iter(sides.values())))
    lengths = {side: quantiles(values) for side, values in sides.items()}
    became = {**(counts or {}), **rows.counts}
    return TextReport(name, what, items, tokens, size, unknown, lengths, became)


def fitted(
    report: TextReport, config: ConversationConfig, *, answered: str | None = None
) -> Suggestions:
    """A context that holds most items, for `aigc recipe new`; where an answer is to be written,
    most of the side `answered` and as much again.
    """
    lengths = report.lengths if answered is None else {answered: report.lengths[answered]}
    long = max(quantile[3] for quantile in lengths.values())
    power = 1 << (long - 1).bit_length()
    context, why = max(16, min(2048, power)), f"99 of 100 have at most {long} tokens."
    if answered is not None:
        context = max(128, min(4096, 2 * power))
        why = f"99 of 100 {answered}s have at most {long} tokens, and answers need room."
    return {
        "train": (config.train, f"{report.items:,} {report.what} train."),
        "context": (context, why),
    }


def marked(tokenizer: Tokenizer, item: Item) -> str:
    """Tokens as text, with special ones by name; what is learned stands in ⟦ ⟧."""
    tokens, target = item["tokens"].tolist(), item["target"].tolist()
    document = item.get("document", item["tokens"] * 0).tolist()
    ids: list[tuple[int, bool]] = []
    for t, (token, following) in enumerate(zip(tokens, target, strict=True)):
        if t == 0 or document[t] != document[t - 1]:
            ids.append((token, False))
        if following != IGNORE:
            ids.append((following, True))
        elif t + 1 < len(tokens) and document[t + 1] == document[t]:
            ids.append((tokens[t + 1], False))
    parts = groupby((pair for pair in ids if pair[0] != tokenizer.pad_id), key=itemgetter(1))
    shown = ((mine, tokenizer.show(number for number, _ in group)) for mine, group in parts)
    return "".join(f"⟦{text}⟧" if mine else text for mine, text in shown)
