"""Records as conversations: turns with a role and words, whatever a file calls them.

| record                                                      | known as          |
|-------------------------------------------------------------|-------------------|
| `{"messages": [{"role": "user", "content": "..."}, ...]}`   | OpenAI, TRL       |
| `{"conversations": [{"from": "human", "value": "..."}]}`    | ShareGPT          |
| `{"instruction", "input", "output", "system", "history"}`   | Alpaca            |
| `{"prompt": "...", "completion": "..."}`                    | prompt and answer |
| a list of turns under `turns_key`, user and assistant       | dialogues         |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from pydantic import Field

from aigc_cli.data._fit import Fit
from aigc_cli.data._rows import (
    Item,
    Part,
    TextReport,
    TextsConfig,
    counted,
    open_parts,
    quantiles,
)
from aigc_cli.data._text_files import Place, Record, Texts, turns
from aigc_cli.data._tokens import Piece, TokenizerConfig, Tokens, find_tokenizer, token_file
from aigc_cli.errors import DataError, InputError
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import IGNORE
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
}


class ConversationConfig(TextsConfig):
    """Settings of every kind of data that is made of conversations."""

    tokenizer: TokenizerConfig = TokenizerConfig(specials="chat")
    """How texts become tokens; with init_from that of the model, by `from`."""
    template: Literal["turns", "chatml", "text"] = "turns"
    """How turns become one text: turns marks them by tokens of `specials: chat`, chatml by those of
    Qwen, text by words, for any model.
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
            if not isinstance(value.get(content), str):
                raise DataError(f"{place}: a turn has no text under {content!r}")
            return {"role": _ROLES[value[role]], "content": value[content]}
    raise DataError(f"{place}: a turn is no object with role and content, or from and value")


def conversation(record: Record, place: Place, turns_key: Name | None = None) -> list[Message]:
    """The turns of a record.

    Raises:
        DataError: it has none of the forms above.
    """
    if turns_key is not None:
        said = turns(record, turns_key, place)
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
        hint="expected messages, conversations, instruction or prompt, or set data.turns_key",
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


def find_parts(
    config: ConversationConfig,
    bases: Sequence[Path],
    read: Callable[[Place, Record], T],
    what: str,
    *,
    key: object,
) -> tuple[Part[T], Part[T]]:
    """What trains and what validates, as `read` makes it of a record; `key` is what decides how.

    Raises: as `open_parts` and `read`.
    """

    def items(texts: Texts) -> Iterator[T]:
        return (read(place, record) for place, record in texts.records())

    return open_parts(config, bases, items, what, key=[key])


def prepared(
    config: ConversationConfig,
    train: Part[T],
    contents: Callable[[T], Iterator[str]],
    cache: Path | None,
    bases: Sequence[Path],
) -> tuple[Tokenizer, Template]:
    """The tokenizer, trained on the words of the training items, and the template.

    Raises:
        DataError: they do not fit each other, or as `find_tokenizer`.
    """
    tokenizer = find_tokenizer(
        config.tokenizer,
        lambda: (text for item in train for text in contents(item)),
        key=[config.kind, *train.key],
        cache=cache,
        bases=bases,
    )
    template = find_template(config.template)
    try:
        template.check(tokenizer)
    except InputError as error:
        raise DataError(f"data.template: {error.message}", hint=error.hint) from error
    return tokenizer, template


def encoded_rows(
    part: Part[T],
    encode: Callable[[T], Sequence[Sequence[int]]],
    key: Sequence[object],
    tokenizer: Tokenizer,
    cache: Path | None,
) -> Tokens:
    """The rows that `encode` makes of each item, always as many."""

    def rows() -> Iterator[Piece]:
        for item in part:
            yield from ((ids, True) for ids in encode(item))

    return token_file(cache, [tokenizer.digest, *key, *part.key], tokenizer.vocab_size, rows)


class Encoded(Protocol):
    """Items as tokens, and what became of them."""

    tokens: Tokens
    counts: dict[str, int]


def reported(
    name: str,
    what: str,
    rows: Encoded,
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


def fitted(report: TextReport, config: ConversationConfig, *, answered: str | None = None) -> Fit:
    """A context that holds most items, for `aigc recipe new`; where an answer is to be written,
    most of the side `answered` and as much again.
    """
    lengths = report.lengths if answered is None else {answered: report.lengths[answered]}
    long = max(quantile[3] for quantile in lengths.values())
    power = 1 << (long - 1).bit_length()
    context, why = max(16, min(2048, power)), f"99 of 100 have at most {long} tokens."
    if answered is not None:
        context = max(32, min(4096, 2 * power))
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
