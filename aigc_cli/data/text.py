"""Running text or many texts, as rows of tokens, for models that continue texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.data._cache import cache_folder
from aigc_cli.data._claim import LIKELY, POSSIBLE, Claim, columns, first_records, parts, written
from aigc_cli.data._example import CHAT_LETTERS, sentences, write_lines
from aigc_cli.data._images import Sources
from aigc_cli.data._rows import (
    HeldOut,
    Item,
    Rows,
    Shuffled,
    TextData,
    TextPart,
    TextReport,
    TextsConfig,
    counted,
    pack,
    parted,
    quantiles,
    require_items,
    tensor,
)
from aigc_cli.data._stream import Key
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import TextFile, Texts, field, open_texts, strings
from aigc_cli.data._tokens import (
    Ids,
    Piece,
    Tokens,
    find_tokenizer,
    fit_vocabulary,
    grouped,
    token_file,
)
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import IGNORE, TextSpec
from aigc_cli.text.tokenizer import Tokenizer

ROWS = 128  # that a suggested context leaves, at least
LONG = 1 << 20  # characters after which a line is cut where it is read

Fragment = tuple[str, bool]
"""Part of a document, and whether it ends there."""


class Config(TextsConfig):
    """Texts, and how they come into rows."""

    kind: Literal["text"] = "text"
    """Running text, or many texts."""
    val: Sources = "last 10%"
    """Texts to validate with, or the share of `train` that is held out: `last 10%` of the
    characters of running text, else of the documents; `10%` is every tenth document.
    """
    context: int = Field(256, ge=2, le=1 << 20)
    """Tokens in a row."""
    packing: Literal["windows", "stream", "isolated", "separate"] = "stream"
    """windows: rows begin anywhere, with replacement, as in nanoGPT; stream: each stretch of the
    joined documents once an epoch; isolated: whole documents, which do not see each other;
    separate: one document a row.
    """
    documents: Literal["file", "paragraph", "line"] = "file"
    """What is a document in plain files; in others it is a record."""
    key: Name | int = "text"
    """Where the text is in a JSON object or data set; in TSV the number of the column."""
    overlong: Literal["split", "truncate", "drop"] = "split"
    """isolated, separate: what becomes of documents longer than a row."""


def documents(texts: Texts, config: Config) -> Iterator[Fragment]:
    """The documents in fragments. A list of texts, such as paragraphs, is one document.

    Raises:
        DataError: as `Texts.records`, `field` and `strings`.
    """
    for part in texts.parts:
        if not isinstance(part, TextFile) or part.form != "plain":
            for place, record in part.records():
                text = "\n".join(strings(field(record, config.key, place), config.key, place))
                yield from [(text, True)] if text.strip() else []
        elif config.documents == "file":
            yield from _in_lines(part.blocks())
        elif config.documents == "line":
            yield from ((line, True) for line in part.lines() if line.strip())
        else:
            yield from _paragraphs(part.lines())


def _in_lines(blocks: Iterable[Fragment]) -> Iterator[Fragment]:
    """The same text in fragments that end with a line, so that no word is cut."""
    rest = ""
    for block, last in blocks:
        rest += block
        cut = len(rest) if last else rest.rfind("\n") + 1
        if not cut and len(rest) > LONG:
            cut = len(rest)
        if cut:
            yield rest[:cut], last
            rest = rest[cut:]


def _paragraphs(lines: Iterable[str]) -> Iterator[Fragment]:
    """Lines between empty ones."""
    paragraph: list[str] = []
    for line in lines:
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph), True
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph), True


def open_parts(
    config: Config, bases: Sequence[Path], *, val_only: bool = False
) -> dict[str, TextPart[Fragment]]:
    """What trains and what validates, by recipe key.

    Raises:
        DataError: a source is absent, empty or cannot be read, or nothing is left to train on.
    """
    key = [config.documents, config.key]

    def opened(source: Sources, name: str) -> TextPart[Fragment]:
        texts = open_texts(source, bases=bases, key=name)
        return TextPart(texts.text, [texts.digest, *key], lambda: documents(texts, config))

    held = HeldOut.parse(config.val)
    in_files = config.documents == "file" and held is not None
    if not in_files or not open_texts(config.train, bases=bases).is_running:
        return parted(config, opened, "documents", val_only=val_only)
    assert held is not None
    if not held.last:
        raise DataError(
            f"data.val: {config.val} are documents, and data.documents=file has one a file",
            hint=f"write last {config.val}, or set data.documents to line or paragraph",
        )
    whole = opened(config.train, "data.train")
    total = sum(len(text) for text, _ in whole)
    if total < 2:
        raise DataError(f"data.train: one character in {whole.name!r} cannot train and validate")
    cut = held.numbers(total).start

    def stretch(word: str, start: int, stop: int) -> TextPart[Fragment]:
        return TextPart(whole.name, [*whole.key, word, cut], lambda: clipped(whole, start, stop))

    val = {"data.val": stretch("from", cut, total)}
    return val if val_only else {"data.train": stretch("to", 0, cut), **val}


def clipped(fragments: Iterable[Fragment], start: int, stop: int) -> Iterator[Fragment]:
    """Characters start to stop of all the text; a document that is cut does not end there."""
    place = 0
    for text, last in fragments:
        inside = text[max(start - place, 0) : max(stop - place, 0)]
        place += len(text)
        if inside:
            yield inside, last and place <= stop


def tokens_of(part: TextPart[Fragment], tokenizer: Tokenizer, cache: Path | None) -> Tokens:
    """A row of ids for each document, ended by eos where the tokenizer has one."""
    end = None if tokenizer.eos_id is None else [tokenizer.eos_id]

    def rows() -> Iterator[Piece]:
        whole = True
        ends: list[bool] = []

        def texts() -> Iterator[str]:
            for text, last in part:
                ends.append(last)
                yield text

        for group in grouped(texts()):
            for ids, last in zip(tokenizer.encode_arrays(group), ends, strict=True):
                yield ids, last and end is None
                if last and end is not None:
                    yield end, True
                whole = last
            ends.clear()
        if not whole:  # cut where the part ends
            yield [], True

    return token_file(cache, ["text", tokenizer.digest, *part.key], tokenizer.vocab_size, rows)


class TextRows(Rows):
    """Rows of `context` tokens. Where the tokenizer has bos, a row begins with it, and so a prompt
    does; the rest are the tokens before each target.
    """

    def __init__(self, tokens: Tokens, tokenizer: Tokenizer, context: int) -> None:
        self.tokens, self.context, self.bos = tokens, context, tokenizer.bos_id
        self.tokenizer = tokenizer
        self.pad = tokenizer.pad_id or 0
        self.pads = {"tokens": self.pad, "target": IGNORE, "document": 0}
        self.counts: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Tokens that can be learned: without bos nothing comes before the first."""
        return len(self.tokens.ids) - (self.bos is None)

    def cut(self, ids: Ids, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """tokens and target for the targets number start to stop of `ids`."""
        if self.bos is None:
            return tensor(ids[start:stop]), tensor(ids[start + 1 : stop + 1])
        target = tensor(ids[start:stop])
        return torch.cat([torch.tensor([self.bos]), target[:-1]]), target

    def row(self, start: int) -> Item:
        """tokens (context,) and target (context,) of the joined documents from a place on."""
        tokens, target = self.cut(self.tokens.ids, start, min(start + self.context, self.total))
        short = self.context - len(target)
        return {
            "tokens": torch.nn.functional.pad(tokens, (0, short), value=self.pad),
            "target": torch.nn.functional.pad(target, (0, short), value=IGNORE),
        }

    def texts(self, index: int) -> dict[str, object]:
        """The first half of an item as a prompt, and how it goes on."""
        target = self[index]["target"]
        target = target[target != IGNORE]
        half = len(target) // 2
        prompt, rest = (self.tokenizer.decode(ids.tolist()) for ids in target.tensor_split([half]))
        return {"prompt": prompt, "references": [rest]}


class Blocks(TextRows):
    """Each stretch of the joined documents once; the last one is padded."""

    def __len__(self) -> int:
        return -(-self.total // self.context)

    def __getitem__(self, index: int) -> Item:
        return self.row(index * self.context)


class Windows(Blocks):
    """Rows that begin anywhere; as many in an epoch as there are stretches."""

    def at(self, seed: int) -> Item:
        return self.row(seed % max(self.total - self.context + 1, 1))


class Drawn(Shuffled[TextRows]):
    """Training rows whose place follows from their seed."""

    def __init__(self, windows: Windows) -> None:
        super().__init__(windows)
        self.windows = windows

    def __getitem__(self, key: Key) -> Item:
        return self.windows.at(key[1])


class Documents(TextRows):
    """Whole documents, or stretches of long ones, several in a row where they fit."""

    def __init__(
        self, tokens: Tokens, tokenizer: Tokenizer, config: Config, *, packed: bool
    ) -> None:
        super().__init__(tokens, tokenizer, config.context)
        self.packed = packed
        whole = np.maximum(tokens.lengths - (self.bos is None), 0)  # targets of each document
        long = whole > self.context
        lengths = whole
        if config.overlong != "split":
            limit = self.context if config.overlong == "truncate" else 0
            lengths = np.where(long, limit, whole)
        pieces = -(-lengths // self.context)
        self.document = np.repeat(np.arange(len(lengths)), pieces)
        first = np.repeat(np.cumsum(pieces) - pieces, pieces)
        self.start = (np.arange(len(self.document)) - first) * self.context
        self.stop = np.minimum(self.start + self.context, lengths[self.document])
        sizes = self.stop - self.start
        self.rows = pack(sizes, self.context) if packed else [[n] for n in range(len(sizes))]
        lost = int((whole - lengths).sum())
        became = {"split": "split", "truncate": "truncated", "drop": "dropped"}[config.overlong]
        self.counts = {"rows": len(self.rows), became: int(long.sum())}
        if lost:
            self.counts[f"{became} tokens"] = lost
        if packed:
            self.counts["padding"] = len(self.rows) * self.context - int(sizes.sum())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        pieces = [
            self.cut(self.tokens[int(self.document[n])], int(self.start[n]), int(self.stop[n]))
            for n in self.rows[index]
        ]
        tokens, target = (torch.cat(side) for side in zip(*pieces, strict=True))
        if not self.packed:
            return {"tokens": tokens, "target": target}
        sizes = torch.tensor([len(piece[1]) for piece in pieces])
        short = self.context - len(target)
        document = torch.repeat_interleave(torch.arange(len(pieces)), sizes)
        pad = torch.nn.functional.pad
        return {
            "tokens": pad(tokens, (0, short), value=self.pad),
            "target": pad(target, (0, short), value=IGNORE),
            "document": pad(document, (0, short), value=len(pieces)),
        }


class Data(TextData):
    """Training and validation rows, all encoded when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, and tokenizer and context are those of the model.

    Raises:
        DataError: a source is absent, empty or cannot be read, or nothing can be learned from it.
        MissingError: a source needs a package that is not installed.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: TextSpec | None = None,
    ) -> None:
        cache = cache_folder(config.cache)
        parts = open_parts(config, bases, val_only=spec is not None)
        for key, part in parts.items():
            if not any(text.strip() for text, _ in part):
                held = key == "data.val" and HeldOut.parse(config.val) is not None
                raise DataError(
                    f"{key}: nothing is left of {part.name!r} to validate with"
                    if held and "data.train" in parts
                    else f"{key}: there is nothing but white space in {part.name!r}",
                    hint="give more text, or other texts with data.val" if held else None,
                )
        if spec is None:
            trains = parts["data.train"]
            tokenizer = find_tokenizer(
                config.tokenizer,
                lambda: (text for text, _ in trains),
                source=trains.name,
                key=trains.key,
                cache=cache,
                bases=bases,
            )
            spec = TextSpec(tokenizer.to_json(), config.context)
        self.spec, self.tokenizer = spec, Tokenizer.from_json(spec.tokenizer)
        config = config.model_copy(update={"context": spec.context})
        encoded = {key: tokens_of(part, self.tokenizer, cache) for key, part in parts.items()}
        rows: dict[str, TextRows] = {"data.val": self._validating(encoded["data.val"], config)}
        self.val = rows["data.val"]
        if "data.train" in encoded:
            self.train = self._training(encoded["data.train"], config)
            rows["data.train"] = self.train.rows
        reports = {key: report(parts[key].name, one) for key, one in rows.items()}
        self.report = require_items(rows, reports, parts)

    def _training(self, tokens: Tokens, config: Config) -> Shuffled[TextRows]:
        if config.packing == "windows":
            return Drawn(Windows(tokens, self.tokenizer, config.context))
        if config.packing == "stream":
            return Shuffled(Blocks(tokens, self.tokenizer, config.context))
        packed = config.packing == "isolated"
        rows = Documents(tokens, self.tokenizer, config, packed=packed)
        return Shuffled(rows, None if packed else rows.stop - rows.start)

    def _validating(self, tokens: Tokens, config: Config) -> TextRows:
        if config.packing in ("isolated", "separate"):
            return Documents(tokens, self.tokenizer, config, packed=False)
        return Blocks(tokens, self.tokenizer, config.context)

    def examples(self, count: int) -> Iterator[str]:
        """Training rows as text, with special tokens by name."""
        for index in range(min(count, len(self.train))):
            yield self.tokenizer.show(self.train.rows[index]["tokens"].tolist())


def report(name: str, rows: TextRows) -> TextReport:
    tokens, size, unknown = counted(rows.tokenizer, rows.tokens)
    lengths = {"tokens": quantiles(rows.tokens.lengths)}
    return TextReport(
        name, "documents", len(rows.tokens), tokens, size, unknown, lengths, rows.counts
    )


def example(folder: Path) -> dict[str, Any]:
    """Running text in one file."""
    write_lines(folder / "words.txt", sentences())
    return {"kind": "text", "train": str(folder / "words.txt"), "val": "last 20%",
            "tokenizer": CHAT_LETTERS, "context": 24, "cache": "off"}  # fmt: skip


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Plain texts, or records with a text: the longest of those that they have."""
    values = parts(source, bases)
    records = first_records(values["train"], bases)
    if not records:
        return None
    if isinstance(records[0], str):
        return Claim(values, "plain text", LIKELY)
    found = {key: column for key, column in columns(records).items() if written(column)}
    if not found:
        return None
    key = max(found, key=lambda key: sum(len(" ".join(text)) for text in found[key]))
    return Claim({**values, "key": key}, f"texts under {key!r}", POSSIBLE)


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """A context that the texts fill, for `aigc recipe new`.

    Raises:
        DataError: as `open_parts`.
    """
    trains = open_parts(config, bases)["data.train"]
    total = sum(len(text) for text, _ in trains)
    size = sum(len(text.encode()) for text, _ in trains)
    tokens = size // (3 if config.tokenizer.kind in ("bpe", "unigram") else 1)
    context = max(16, min(256, 1 << max(0, (tokens // ROWS).bit_length() - 1)))
    return {
        "train": (config.train, f"{total:,} characters train."),
        "context": (context, "256 is usual for a start; shorter, so that there are some rows."),
        **fit_vocabulary(config.tokenizer, size),
    }
