"""Texts with a class each: emotions, topics, spam."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator

from aigc_cli.data._cache import cache_folder
from aigc_cli.data._claim import STRUCTURED, Claim, columns, first_records, parts, written
from aigc_cli.data._example import sentences, write_lines
from aigc_cli.data._paths import find_path
from aigc_cli.data._rows import (
    Item,
    Rows,
    Shuffled,
    TextData,
    TextPart,
    TextReport,
    TextsConfig,
    built_to_fit,
    counted,
    open_parts,
    padded,
    quantiles,
    require_items,
    tensor,
)
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import Place, Record, TextFile, Texts, field, strings
from aigc_cli.data._tokens import Tokens, encoded, find_tokenizer, token_file
from aigc_cli.errors import DataError, did_you_mean
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import LabelledTextSpec
from aigc_cli.text.tokenizer import Tokenizer

LABELS = frozenset(
    {"label", "labels", "class", "category", "topic", "intent", "emotion", "sentiment"}
)
"""Usual names of the column of classes, when several would do."""
CLASSES, FEWEST = 64, 4  # most classes of such a column, and fewest texts of each


class Config(TextsConfig):
    """Texts and their classes, and where they are."""

    kind: Literal["labelled_texts"] = "labelled_texts"
    """Texts with a class each."""
    text_key: Name | int | None = None
    """Where the text is: column of a TSV, by default 0; key of an object, by default text."""
    label_key: Name | int | None = None
    """Where the class is: by default column 1 or key label. A name, or a number from 0 on."""
    labels: Name | None = None
    """File with the name of a class in each line, which numbers count from 0; without it the
    classes are those that the training texts have.
    """
    separator: Name | None = None
    """What parts the classes of a text that has several, such as a comma."""
    several: Literal["refuse", "drop"] = "refuse"
    """What becomes of texts with several classes: drop leaves them out, also of validation."""
    empty: Literal["refuse", "drop"] = "refuse"
    """What becomes of texts of nothing but white space: drop leaves them out, also of validation,
    and the report counts them.
    """
    max_length: int = Field(128, ge=2, le=1 << 16)
    """Most tokens of a text, with eos; of longer ones the beginning is read."""
    bucketing: bool = True
    """Make batches of texts of about one length, which pads less."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.tokenizer.specials == "none":
            raise ValueError("tokenizer.specials: none is only for running text")
        return self


class Labeled(NamedTuple):
    text: str
    labels: tuple[str, ...]
    """Names of its classes: one, but for texts that are dropped, which have several or none."""


def read(texts: Texts, config: Config, names: Sequence[str] | None) -> Iterator[Labeled]:
    """Every text with its classes, by their names where these are known.

    Raises:
        DataError: a record has no text, no class, an unknown class, or several that are refused;
            names the line.
    """
    for place, record in texts.records():
        if isinstance(record, str):
            raise DataError(f"{place}: a plain line has no class", hint="give .tsv, .csv or .jsonl")
        columns = isinstance(record, list)
        key, label_key = config.text_key, config.label_key
        key = (0 if columns else "text") if key is None else key
        label_key = (1 if columns else "label") if label_key is None else label_key
        [*several] = strings(field(record, key, place), key, place)
        text = " ".join(several)
        if not text.strip():
            if config.empty == "refuse":
                hint = "leave the line out, or set data.empty=drop"
                raise DataError(f"{place}: an empty text", hint=hint)
            yield Labeled("", ())
            continue
        found = labels_of(record, label_key, config.separator, place)
        if names is not None:
            found = [_named(label, names, place) for label in found]
        if len(found) > 1 and config.several == "refuse":
            raise DataError(
                f"{place}: {len(found)} classes, {', '.join(found)}, and a text has one",
                hint="leave such texts out with data.several: drop",
            )
        yield Labeled(text, tuple(found))


def labels_of(record: Record, key: str | int, separator: str | None, place: Place) -> list[str]:
    """The classes of a record as they are written, each once.

    Raises:
        DataError: it has none.
    """
    value: Any = field(record, key, place)
    values = value if isinstance(value, list) else [value]
    numbers = [str(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
    found = [
        part.strip()
        for one in strings(numbers, key, place)
        for part in (one.split(separator) if separator else [one])
    ]
    if not found or "" in found:
        raise DataError(f"{place}: no class under {key!r}")
    return list(dict.fromkeys(found))


def _named(label: str, names: Sequence[str], place: Place) -> str:
    if label in names:
        return label
    if label.isdecimal():
        if int(label) < len(names):
            return names[int(label)]
        raise DataError(
            f"{place}: class {label}, and data.labels has {len(names)}, from 0 to {len(names) - 1}"
        )
    raise DataError(f"{place}: unknown class {label!r}", hint=did_you_mean(label, names))


def read_names(text: str, bases: Sequence[Path]) -> tuple[str, ...]:
    """Names of classes, one a line.

    Raises:
        DataError: there is no such file, or a line is empty or there twice.
    """
    try:
        path = find_path(text, bases)
    except DataError as error:
        raise DataError(f"data.labels: {error.message}", hint=error.hint) from error
    if path.is_dir():
        raise DataError(f"data.labels: {text} is a folder")
    names = [line.strip() for line in TextFile(path).lines()]
    for number, name in enumerate(names, 1):
        if not name or name in names[: number - 1]:
            what = f"{name!r} is there twice" if name else "no name"
            raise DataError(f"data.labels: {path.name}:{number}: {what}")
    return tuple(names)


class LabelledTexts(Rows):
    """Texts of one class, cut to `max_length` tokens. The report counts those left out."""

    def __init__(
        self,
        part: TextPart[Labeled],
        tokens: Tokens,
        tokenizer: Tokenizer,
        names: Sequence[str],
        config: Config,
    ) -> None:
        self.tokens, self.most = tokens, config.max_length - 1
        assert tokenizer.eos_id is not None
        assert tokenizer.pad_id is not None
        self.eos, self.pad = tokenizer.eos_id, tokenizer.pad_id
        number = {name: i for i, name in enumerate(names)}
        several = empty = 0
        labels = []
        for item in part:
            several, empty = several + (len(item.labels) > 1), empty + (not item.labels)
            labels.append(number.get(item.labels[0], -1) if len(item.labels) == 1 else -1)
        self.numbers = np.nonzero(np.asarray(labels) >= 0)[0]
        self.labels = np.asarray(labels)[self.numbers]
        sizes = tokens.lengths[self.numbers]
        self.lengths = np.minimum(sizes, self.most) + 1
        self.counts = {
            "several classes": several,
            "empty": empty,
            "truncated": int((sizes > self.most).sum()),
            "truncated tokens": int((sizes - self.lengths + 1).sum()),
        }

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Item:
        """tokens (T,), label ()."""
        ids = self.tokens[int(self.numbers[index])][: self.most].astype(np.int64)
        return {
            "tokens": tensor(np.append(ids, self.eos)),
            "label": torch.tensor(int(self.labels[index])),
        }

    def collate(self, items: Sequence[Item]) -> Item:
        return {
            "tokens": padded([item["tokens"] for item in items], self.pad),
            "label": torch.stack([item["label"] for item in items]),
        }


class Data(TextData):
    """Training and validation texts, all encoded when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, and tokenizer, length and classes are those of the model.

    Raises:
        DataError: a source is absent, empty or cannot be read, classes are unknown, fewer than two,
            or more than texts.
        MissingError: a source needs a package that is not installed.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: LabelledTextSpec | None = None,
    ) -> None:
        cache = cache_folder(config.cache)
        given = spec.labels if spec is not None else None
        if given is None and config.labels is not None:
            given = read_names(config.labels, bases)
        parts = open_parts(
            config, bases, lambda texts: read(texts, config, given), "texts",
            key=["labeled", config.text_key, config.empty], val_only=spec is not None,
        )  # fmt: skip
        names = given or tuple(sorted(_classes(parts["data.train"]), key=_order))
        require_names(parts["data.val"], names)
        if spec is None:
            trains = parts["data.train"]
            tokenizer = find_tokenizer(
                config.tokenizer, lambda: (item.text for item in trains),
                source=trains.name, key=["labeled", *trains.key], cache=cache, bases=bases,
            )  # fmt: skip
            spec = LabelledTextSpec(tokenizer.to_json(), config.max_length, names)
        self.tokenizer = Tokenizer.from_json(spec.tokenizer)
        if self.tokenizer.eos_id is None or self.tokenizer.pad_id is None:
            raise DataError("data.tokenizer has no tokens for padding and the end of a text")
        config = config.model_copy(update={"max_length": spec.max_length})

        def rows(part: TextPart[Labeled]) -> LabelledTexts:
            own = self.tokenizer
            tokens = token_file(
                cache, [*part.key, own.digest], own.vocab_size,
                lambda: ((ids, True) for ids in encoded(own, (item.text for item in part))),
            )  # fmt: skip
            return LabelledTexts(part, tokens, own, names, config)

        found = {key: rows(part) for key, part in parts.items()}
        self.val = found["data.val"]
        reports = {key: report(parts[key].name, one, self.tokenizer) for key, one in found.items()}
        self.report = require_items(found, reports, parts)
        if train := found.get("data.train"):
            require_several(names, train)
            self.rows = train
            self.train = Shuffled(train, train.lengths if config.bucketing else None)
            counts = np.bincount(train.labels, minlength=len(names)).tolist()
            spec = replace(spec, counts=tuple(counts))
        self.spec = spec

    def examples(self, count: int) -> Iterator[str]:
        """Training texts with special tokens by name, and their classes."""
        for index in range(min(count, len(self.rows))):
            item = self.rows[index]
            label = self.spec.labels[int(item["label"])]
            yield f"{self.tokenizer.show(item['tokens'].tolist())}\n=> {label}"


def require_names(part: TextPart[Labeled], names: Sequence[str]) -> None:
    """See that the texts that validate are of classes that are known.

    Raises:
        DataError: one is not.
    """
    if unknown := sorted(_classes(part) - set(names), key=_order):
        raise DataError(
            f"data.val: class {unknown[0]!r} has no training texts",
            hint="name all classes in data.labels, or give each two texts or more",
        )


def require_several(names: Sequence[str], rows: LabelledTexts) -> None:
    """See that there is something to tell apart.

    Raises:
        DataError: one class, or more than texts.
    """
    if len(names) < 2:
        raise DataError(f"the texts have one class, {names[0]!r}: there is nothing to tell")
    if len(names) > len(rows):
        raise DataError(
            f"{len(names):,} classes, and {len(rows):,} texts train",
            hint="is data.label_key the text instead of the class?",
        )


def _classes(part: TextPart[Labeled]) -> set[str]:
    return {item.labels[0] for item in part if len(item.labels) == 1}


def _order(name: str) -> tuple[bool, int, str]:
    """Numbers by value, before names."""
    return not name.isdecimal(), int(name) if name.isdecimal() else 0, name


def report(name: str, rows: LabelledTexts, tokenizer: Tokenizer) -> TextReport:
    tokens, size, unknown = counted(tokenizer, rows.tokens)
    lengths = {"tokens": quantiles(rows.tokens.lengths)}
    return TextReport(name, "texts", len(rows.tokens), tokens, size, unknown, lengths, rows.counts)


def example(folder: Path) -> dict[str, Any]:
    """Texts of three classes in a table."""
    rows = [f"{text},{('sat', 'saw', 'jumped')[n % 3]}" for n, text in enumerate(sentences())]
    write_lines(folder / "labeled.csv", ["text,label", *rows])
    return {"kind": "labelled_texts", "train": str(folder / "labeled.csv"), "val": "20%",
            "tokenizer": {"kind": "words"}, "cache": "off"}  # fmt: skip


def recognize(source: str, bases: Sequence[Path] = ()) -> Claim | None:
    """Records with a text and a column of few short values that return."""
    values: dict[str, Any] = dict(parts(source, bases))
    records = first_records(values["train"], bases)
    found = columns(records)
    texts = [key for key, column in found.items() if written(column)]
    classes: dict[str | int, set[str]] = {}
    for key in (key for key in found if key not in texts):
        labels = {str(value) for value in found[key] if not isinstance(value, (list, dict))}
        singles = {one for label in labels for one in re.split(r",\s*", label)}
        if 2 <= len(singles) <= min(CLASSES, len(records) // FEWEST) and all(
            0 < len(one) <= 40 for one in singles
        ):
            classes[key] = labels
    if not texts or not classes:
        return None
    text = max(texts, key=lambda key: sum(map(len, found[key])))
    label = next((key for key in classes if str(key).lower() in LABELS), next(iter(classes)))
    values |= {"text_key": text, "label_key": label}
    if any("," in one for one in classes[label]):
        values |= {"separator": ",", "several": "drop"}
    names = Path(values["train"]).parent / "labels.txt"
    if all(re.fullmatch(r"[\d,]+", one) for one in classes[label]) and names.is_file():
        values["labels"] = str(names)
    why = f"texts under {text!r} with few classes under {label!r}"
    return Claim(values, why, STRUCTURED)


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """A length that holds most texts, for `aigc recipe new`.

    Raises:
        DataError: as `Data`.
    """
    data, vocabulary = built_to_fit(lambda config: Data(config, seed=0, bases=bases), config)
    long = data.report["data.train"].lengths["tokens"][3]
    most = Counter(data.rows.labels.tolist()).most_common(1)[0]
    share = most[1] / len(data.rows)
    return {
        "train": (
            config.train,
            f"{len(data.rows):,} texts of {len(data.spec.labels)} classes train; "
            f"{share:.0%} are {data.spec.labels[most[0]]!r}.",
        ),
        "max_length": (
            max(8, min(512, -(-(long + 1) // 8) * 8)),
            f"99 of 100 have at most {long} tokens.",
        ),
        **vocabulary,
    }
