"""What every kind of data made of texts shares: its two parts, packing, padding, and the report."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aigc_cli.data._cache import digest
from aigc_cli.data._images import Sources
from aigc_cli.data._stream import Key
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import Texts, open_texts
from aigc_cli.data._tokens import TokenizerConfig, Tokens, fit_vocabulary
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Name, Section
from aigc_cli.specs.text import IGNORE
from aigc_cli.text.tokenizer import Tokenizer

T = TypeVar("T")
R = TypeVar("R", bound="Rows", covariant=True)
Item = dict[str, Tensor]
Counts = NDArray[np.int64]

HELD_OUT = re.compile(r"(last )?(\d+(?:\.\d+)?)%")


class TextsConfig(Section):
    """Settings of every kind of data that is made of texts."""

    modality: ClassVar[str] = "text"
    kind: str
    """Name of the kind of data."""
    train: Sources
    """Texts to train on: file, folder, hf:NAME[:SPLIT], or a list of them."""
    val: Sources = "10%"
    """Texts to validate with, or the share of `train` that is held out: `10%` is every tenth item,
    `last 10%` are those at the end.
    """
    tokenizer: TokenizerConfig = TokenizerConfig()
    """How texts become tokens."""
    cache: Name = "auto"
    """Folder for tokens; auto is ~/.cache/aigc, off keeps them for this run only."""


@dataclass(frozen=True)
class HeldOut:
    """Which of the items of a source validate."""

    share: float
    last: bool

    @classmethod
    def parse(cls, val: Sources) -> HeldOut | None:
        """None where `val` names other texts.

        Raises:
            DataError: nothing would train, or nothing validate.
        """
        match = HELD_OUT.fullmatch(val) if isinstance(val, str) else None
        if match is None:
            return None
        share = float(match[2]) / 100
        if not 0 < share < 1:
            raise DataError(f"data.val: {val} leaves nothing to {'train' if share else 'validate'}")
        return cls(share, match[1] is not None)

    def numbers(self, count: int) -> range:
        """Numbers of the items, of `count`, that validate: at least one."""
        if self.last:
            return range(min(int(count * (1 - self.share)), count - 1), count)
        return range(0, count, max(2, round(1 / self.share)))


class TextPart(Generic[T]):
    """The items of a source that train, or that validate, read anew by each loop."""

    def __init__(
        self,
        name: str,
        key: Sequence[object],
        read: Callable[[], Iterator[T]],
        without: range | None = None,
        only: range | None = None,
    ) -> None:
        self.name = name
        self.key = [*key, without, only]
        self._read, self._without, self._only = read, without, only

    def __iter__(self) -> Iterator[T]:
        for number, item in enumerate(self._read()):
            held = self._without is not None and number in self._without
            if not held and (self._only is None or number in self._only):
                yield item


def open_parts(
    config: TextsConfig,
    bases: Sequence[Path],
    read: Callable[[Texts], Iterator[T]],
    what: str,
    *,
    key: Sequence[object],
    val_only: bool = False,
) -> dict[str, TextPart[T]]:
    """What trains and what validates by recipe key, as the items that `read` finds; `what` names
    these, and `key` is all that decides what `read` finds.

    Raises:
        DataError: there are none, or one would have to do both; and as `read`.
    """

    def opened(source: Sources, name: str) -> TextPart[T]:
        texts = open_texts(source, bases=bases, key=name)
        return TextPart(texts.text, [texts.digest, *key], lambda: read(texts))

    return parted(config, opened, what, val_only=val_only)


def parted(
    config: TextsConfig, opened: Callable[[Sources, str], TextPart[T]], what: str, *, val_only: bool
) -> dict[str, TextPart[T]]:
    """The parts that `opened` makes of `data.train` and `data.val`, or of a share of the first.

    Raises: as `opened` and `held_apart`.
    """
    held = HeldOut.parse(config.val)
    if held is None:
        val = {"data.val": opened(config.val, "data.val")}
        return val if val_only else {"data.train": opened(config.train, "data.train"), **val}
    whole = opened(config.train, "data.train")
    parts = held_apart(whole.name, whole.key, whole.__iter__, held, what)
    return {"data.val": parts["data.val"]} if val_only else parts


def held_apart(
    name: str, key: Sequence[object], read: Callable[[], Iterator[T]], held: HeldOut, what: str
) -> dict[str, TextPart[T]]:
    """One source as two parts.

    Raises:
        DataError: it has fewer than two items.
    """
    count = sum(1 for _ in read())
    if count < 2:
        raise DataError(
            f"data.train: {count or 'no'} {what} in {name!r}"
            + (" cannot both train and validate" if count else ""),
            hint="name other texts with data.val" if count else None,
        )
    chosen = held.numbers(count)
    return {
        "data.train": TextPart(name, key, read, without=chosen),
        "data.val": TextPart(name, key, read, only=chosen),
    }


# -- packing ---------------------------------------------------------------------------------------


def pack(lengths: Sequence[int] | Counts, capacity: int) -> list[list[int]]:
    """Numbers of the texts in each row: best fit, the longest first.

    A text goes into the fullest row that still holds it. Equal for equal lengths.

    Raises:
        ValueError: a text is longer than a row.
    """
    rows: list[list[int]] = []
    free: list[int] = []  # different amounts of space that rows have, ascending
    by_free: dict[int, list[int]] = {}
    for number in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = int(lengths[number])
        if length > capacity:
            raise ValueError(f"a text of {length} tokens does not fit rows of {capacity}")
        place = bisect_left(free, length)
        if place == len(free):
            row, left = len(rows), capacity
            rows.append([])
        else:
            left = free[place]
            row = by_free[left].pop()
            if not by_free[left]:
                del by_free[left], free[place]
        rows[row].append(number)
        left -= length
        if left and left not in by_free:
            insort(free, left)
        if left:
            by_free.setdefault(left, []).append(row)
    return rows


# -- items -----------------------------------------------------------------------------------------


class Rows(ABC):
    """Numbered items; a kind of data writes `__len__`, `__getitem__` and, to be asked for the text
    behind an item, `texts`.
    """

    pads: Mapping[str, int]
    """What fills up a short row of each key; those on the left are named in `left`."""
    left: frozenset[str] = frozenset()
    behind: Sequence[Any] = ()
    """What each item was made of, kept where `texts` is asked for it."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Item: ...

    def keep(self, part: Iterable[Any], numbers: Iterable[int]) -> None:
        """Remember those of a part that became items."""
        whole = list(part)
        self.behind = [whole[number] for number in numbers]

    def collate(self, items: Sequence[Item]) -> Item:
        """Items of several lengths as one batch."""
        return {
            key: padded([item[key] for item in items], self.pads[key], left=key in self.left)
            for key in items[0]
        }


class Shuffled(Generic[R]):
    """Training texts in the order of a sampler."""

    def __init__(self, rows: R, lengths: Counts | None = None) -> None:
        self.rows = rows
        self.collate = rows.collate
        if lengths is not None:
            self.lengths = lengths
            """Tokens of each item: batches are made of items of about one length."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> Item:
        return self.rows[key[0]]


def padded(rows: Sequence[Tensor], pad: int, *, left: bool = False) -> Tensor:
    """(L,) of several lengths -> (B, L)."""
    width = max(len(row) for row in rows)
    out = torch.full((len(rows), width), pad, dtype=torch.int64)
    for line, row in zip(out, rows, strict=True):
        line[width - len(row) if left else 0 : None if left else len(row)] = row
    return out


def tensor(ids: Iterable[int] | NDArray[Any]) -> Tensor:
    """int64 (L,)."""
    return torch.from_numpy(np.array(ids, np.int64))


def next_tokens(ids: NDArray[Any], learned: NDArray[Any] | None = None) -> tuple[Tensor, Tensor]:
    """tokens and target (L - 1,) of a text (L,); where `learned` is 0, target is IGNORE."""
    target = tensor(ids[1:])
    if learned is not None:
        target[torch.from_numpy(np.asarray(learned[1:]) == 0)] = IGNORE
    return tensor(ids[:-1]), target


D = TypeVar("D", bound="TextData")


def built_to_fit(build: Callable[[Any], D], config: Any) -> tuple[D, Suggestions]:
    """The data with a vocabulary that suits its size, and what to say about that, for `suggest`."""
    data = build(config)
    found = fit_vocabulary(config.tokenizer, data.report["data.train"].bytes)
    if found:
        ((size, _),) = found.values()
        tokenizer = config.tokenizer.model_copy(update={"vocab_size": size})
        data = build(config.model_copy(update={"tokenizer": tokenizer}))
    return data, found


class TextData:
    """Base of every kind of texts: all is prepared when `Data` is built."""

    val_batch_size: int | None = None
    report: dict[str, TextReport]

    def start_background(self) -> None:
        """Nothing is left to prepare."""

    def stop_background(self) -> None:
        """Nothing is running."""


# -- report ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextReport:
    """What is in a part, in tokens, and what became of it."""

    source: str
    what: str
    """The name of an item in the plural: documents, pairs."""
    items: int
    tokens: int
    bytes: int
    """Of UTF-8, as far as the tokenizer knows the text."""
    unknown: int
    """Tokens that stand for what the vocabulary lacks."""
    lengths: dict[str, list[int]]
    """Tokens of each side of an item: least, median, 90 %, 99 %, most."""
    counts: dict[str, int] = field(default_factory=dict)
    """What became of the items: truncated, dropped, rows, padding."""
    content: str = ""
    """Digest of the texts and of all settings that decide what is read of them."""

    def as_dict(self) -> dict[str, Any]:
        facts = asdict(self)
        del facts["content"]
        return facts

    def __str__(self) -> str:
        facts = {self.what: self.items, "tokens": self.tokens, "unknown": self.unknown}
        return ", ".join(f"{n:,} {name}" for name, n in {**facts, **self.counts}.items())


def quantiles(lengths: Counts) -> list[int]:
    """Least, median, 90 %, 99 % and greatest."""
    if not len(lengths):
        return [0] * 5
    return np.quantile(lengths, [0, 0.5, 0.9, 0.99, 1], method="nearest").astype(int).tolist()


def counted(tokenizer: Tokenizer, tokens: Tokens, every: slice = slice(None)) -> list[int]:
    """[tokens, bytes, unknown] of every row in a slice of them."""
    beyond = tokenizer.vocab_size  # words that can only be copied
    sizes = np.array([*tokenizer.byte_lengths, 0])
    total = np.zeros(3, np.int64)
    for ids in tokens.chunks(every):
        unknown = (ids >= beyond) | (
            ids == (beyond if tokenizer.unk_id is None else tokenizer.unk_id)
        )
        total += [len(ids), int(sizes[np.minimum(ids, beyond)].sum()), int(unknown.sum())]
    return total.tolist()


def require_items(
    rows: Mapping[str, Sized],
    reports: Mapping[str, TextReport],
    parts: Mapping[str, TextPart[Any]],
) -> dict[str, TextReport]:
    """The reports with the content of their parts; all by recipe key.

    Raises:
        DataError: a part has nothing to learn.
    """
    for key, part in rows.items():
        if not len(part):
            raise DataError(
                f"{key}: nothing in {reports[key].source!r} can be learned: {reports[key]}"
            )
    return {key: replace(one, content=digest(parts[key].key)) for key, one in reports.items()}
