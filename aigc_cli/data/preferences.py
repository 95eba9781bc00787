"""Conversations with a better and a worse answer."""

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
    marked,
    message,
    reported,
)
from aigc_cli.data._example import CHAT_LETTERS, sentences, split_in_two, write_objects
from aigc_cli.data._rows import (
    Item,
    Shuffled,
    TextReport,
    built_to_fit,
    next_tokens,
    padded,
)
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import Place, Record
from aigc_cli.data._tokens import Tokens
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import IGNORE, PreferenceSpec
from aigc_cli.text.template import Template
from aigc_cli.text.tokenizer import Tokenizer

SIDES = ("chosen", "rejected")


class Config(ConversationConfig):
    """Pairs of answers, and where they are."""

    kind: Literal["preferences"] = "preferences"
    """Conversations with a better and a worse answer."""
    chosen_key: Name = "chosen"
    """Key of the better answer: a text, a turn, or a list of turns."""
    rejected_key: Name = "rejected"
    """Key of the worse answer."""
    overlong: Literal["truncate", "drop"] = "truncate"
    """What becomes of training pairs longer than `context`. truncate: a prompt loses its beginning,
    down to half of the context, then answers lose their ends. Those that validate keep their
    prompt, which is read whole when sampling; only their answers are cut.
    """


class Preference(NamedTuple):
    prompt: list[Message]
    chosen: str
    rejected: str


def read(place: Place, record: Record, config: Config) -> Preference:
    """A prompt with two answers. Lists of turns may repeat the prompt, as those of TRL do.

    Raises:
        DataError: the record has no such form.
    """
    if not isinstance(record, dict):
        raise DataError(f"{place}: no JSON object, as preferences are")
    keys = config.chosen_key, config.rejected_key
    if missing := [key for key in keys if key not in record]:
        raise DataError(
            f"{place}: no key {missing[0]!r}", hint=f"keys: {', '.join(map(str, record))}"
        )
    answers = [_answer(record[key], key, place) for key in keys]
    rest = {key: value for key, value in record.items() if key not in keys}
    if isinstance(rest.get("prompt"), list):
        prompt = [message(turn, place) for turn in rest["prompt"]]
    elif answers[0][:-1]:
        prompt = answers[0][:-1]
    else:
        prompt = conversation(rest, place)
    return Preference(prompt, answers[0][-1]["content"], answers[1][-1]["content"])


def _answer(value: Any, key: Name, place: Place) -> list[Message]:
    """Turns of which the last is the assistant's."""
    if isinstance(value, str):
        return [{"role": "assistant", "content": value}]
    said = [message(turn, place) for turn in (value if isinstance(value, list) else [value])]
    if not said or said[-1]["role"] != "assistant":
        raise DataError(f"{place}: {key!r} does not end with a turn of assistant")
    return said


class Preferences(Conversed[Preference]):
    """Pairs whose prompt and answers have at most `context` tokens.

    Where `shorten`, a prompt that leaves its longer answer no room loses its beginning, down to
    half of the context; what is then too long loses its end, as in TRL.
    """

    def __init__(
        self, tokens: Tokens, tokenizer: Tokenizer, config: Config, *, drop: bool, shorten: bool
    ) -> None:
        self.tokens, self.context, self.bos = tokens, config.context, tokenizer.bos_id
        self.pad = tokenizer.pad_id or 0
        self.pads = dict.fromkeys(SIDES, self.pad) | {f"{side}_target": IGNORE for side in SIDES}
        lengths = tokens.lengths.reshape(-1, 4)[:, ::2]  # (pairs, sides)
        whole = lengths - 1
        long = (whole > self.context).any(1)
        prompts = np.array([self._prompt(n) for n in range(len(lengths))], int)
        room = np.maximum(self.context // 2, self.context + 1 - (lengths.max(1) - prompts))
        cuts = np.maximum(prompts - room, 0) if shorten else np.zeros_like(prompts)
        sizes = np.minimum(whole - cuts[:, None], self.context)
        learned = np.array([self._learns(n, cuts[n], sizes[n]) for n in range(len(cuts))], bool)
        kept = learned & ~long if drop else learned
        self.numbers, self.sizes, self.cuts = np.nonzero(kept)[0], sizes[kept], cuts[kept]
        cut = long & kept
        self.counts = {
            "truncated": int(cut.sum()),
            "truncated tokens": int((whole - sizes)[cut].sum()),
            "truncated prompts": int((cuts[kept] > 0).sum()),
            "dropped": int((~kept).sum()),
            "dropped tokens": int(whole[~kept].sum()),
        }

    def _prompt(self, number: int) -> int:
        """Tokens before the answers."""
        return min(int(self.tokens[4 * number + side].argmax()) for side in (1, 3))

    def _learns(self, number: int, cut: int, sizes: Sequence[int]) -> bool:
        masks = (self.tokens[4 * number + side] for side in (1, 3))
        return all(m[1 + cut : 1 + cut + n].any() for m, n in zip(masks, sizes, strict=True))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Item:
        """chosen, chosen_target, rejected, rejected_target, each as long as its side."""
        item = {}
        for number, side in enumerate(SIDES):
            row = 4 * int(self.numbers[index]) + 2 * number
            size, cut = int(self.sizes[index][number]) + 1, int(self.cuts[index])
            first = int(self.tokens[row][0] == self.bos)  # stays where it is
            ids, learned = (
                np.delete(self.tokens[row + side], slice(first, first + cut))[:size]
                for side in (0, 1)
            )
            item[side], item[f"{side}_target"] = next_tokens(ids, learned)
        return item

    def collate(self, items: Sequence[Item]) -> Item:
        """(B, T) with one T for both sides."""
        batch: Item = {}
        for suffix in ("", "_target"):
            keys = [f"{side}{suffix}" for side in SIDES]
            both = padded([item[key] for key in keys for item in items], self.pads[keys[0]])
            batch |= dict(zip(keys, both.split(len(items)), strict=True))
        return batch

    def texts(self, index: int) -> dict[str, object]:
        """The turns before the answers, the last of them as a prompt, and the answers."""
        prompt, chosen, rejected = self.behind[index]
        return {
            "prompt": prompt[-1]["content"] if prompt else "",
            "messages": prompt,
            "references": [chosen],
            "rejected": rejected,
        }


class Data(ConversationData[Preference]):
    """Pairs of answers; prompts that validate are whole, as they are read when sampling."""

    spec_type = PreferenceSpec
    what = "pairs of answers"
    keys = ("chosen_key", "rejected_key")

    def read(self, place: Place, record: Record, config: Config) -> Preference:
        return read(place, record, config)

    def words(self, item: Preference) -> Iterator[str]:
        yield from (turn["content"] for turn in item.prompt)
        yield from (item.chosen, item.rejected)

    def encode(self, item: Preference, template: Template) -> list[Sequence[int]]:
        """Ids and 1 where the answer is, of the better and the worse one."""
        before = len(template.encode(item.prompt, self.tokenizer)[0])
        rows: list[Sequence[int]] = []
        for answer in (item.chosen, item.rejected):
            turn = {"role": "assistant", "content": answer}
            ids, learned = template.encode([*item.prompt, turn], self.tokenizer)
            rows += [ids, [n >= before and mine for n, mine in enumerate(learned)]]
        return rows

    def rows(self, tokens: Tokens, config: Config, *, training: bool) -> Preferences:
        drop = training and config.overlong == "drop"
        shorten = training and not drop
        return Preferences(tokens, self.tokenizer, config, drop=drop, shorten=shorten)

    def shuffled(self, rows: Preferences, config: Config) -> Shuffled[Preferences]:
        return Shuffled(rows, rows.sizes.max(1, initial=0))

    def reported(self, name: str, rows: Preferences) -> TextReport:
        lengths = rows.tokens.lengths.reshape(-1, 4)[:, ::2]
        sides = {side: lengths[:, n] for n, side in enumerate(SIDES)}
        return reported(name, "pairs of answers", rows, self.tokenizer, sides, every=2)

    def examples(self, count: int) -> Iterator[str]:
        """Training pairs as text; what is compared stands in ⟦ ⟧."""
        for index in range(min(count, len(self.train))):
            item = self.train.rows[index]
            yield "\n".join(
                f"{side}: "
                + marked(self.tokenizer, {"tokens": item[side], "target": item[f"{side}_target"]})
                for side in SIDES
            )


def example(folder: Path) -> dict[str, Any]:
    """Prompts with two answers each."""
    rows = [
        {"prompt": subject, "chosen": rest, "rejected": subject}
        for subject, rest in map(split_in_two, sentences())
    ]
    write_objects(folder / "preferences.jsonl", rows)
    return {"kind": "preferences", "train": str(folder / "preferences.jsonl"), "val": "20%",
            "tokenizer": CHAT_LETTERS, "context": 40, "cache": "off"}  # fmt: skip


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """As `fitted`. Raises: as `Data`."""
    data, vocabulary = built_to_fit(lambda config: Data(config, seed=0, bases=bases), config)
    return fitted(data.report["data.train"], config) | vocabulary
