"""Pairs of texts: translations, summaries, replies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from aigc_cli.data._cache import cache_folder
from aigc_cli.data._example import sentences, split_in_two, write_lines
from aigc_cli.data._images import Sources
from aigc_cli.data._pair_claims import recognize as recognize
from aigc_cli.data._rows import (
    HeldOut,
    Item,
    Rows,
    Shuffled,
    TextData,
    TextPart,
    TextReport,
    TextsConfig,
    built_to_fit,
    counted,
    held_apart,
    quantiles,
    require_items,
    tensor,
)
from aigc_cli.data._suggest import Suggestions
from aigc_cli.data._text_files import Place, Record, Texts, field, open_texts, strings, turns
from aigc_cli.data._tokens import Piece, TokenizerConfig, Tokens, find_tokenizer, token_file
from aigc_cli.errors import DataError
from aigc_cli.recipe.sections import Name
from aigc_cli.specs.text import TextPairSpec
from aigc_cli.text.sentences import leads
from aigc_cli.text.tokenizer import Tokenizer

PAIRS = 1000  # that are encoded at once
WINDOW = 16  # most sentences of a source of `pretext: lead`


class Config(TextsConfig):
    """Pairs of texts, and where they are."""

    kind: Literal["text_pairs"] = "text_pairs"
    """Pairs of texts."""
    train_target: Sources | None = None
    """Texts that belong to those of `train` line by line, where these are files of their own."""
    val_target: Sources | None = None
    """As `train_target`, for `val`."""
    source_key: Name | int | None = None
    """Where the source is: column of a TSV, by default 0; key of an object, by default source. A
    list of texts is joined.
    """
    target_key: Name | int | None = None
    """Where the target is: by default column 1 or key target. Of a list each text is right: they
    train as pairs of their own.
    """
    references_key: Name | None = None
    """Key of more targets that are right, which only validate."""
    pretext: Literal["lead"] | None = None
    """lead: a task that needs no targets, to pretrain on (Zhu et al., 2021,
    https://arxiv.org/abs/1912.11602): each sentence of a source is the target of the text that
    begins with it. Plain lines do for sources.
    """
    turns_key: Name | None = None
    """Key of the turns of a dialogue, in place of the keys above: each turn but the first is the
    target of those before it, which are joined by line ends.
    """
    context_turns: int = Field(3, ge=1)
    """Most turns that a reply answers to."""
    max_source: int = Field(128, ge=2, le=1 << 16)
    """Most tokens of a source, with eos."""
    max_target: int = Field(128, ge=3, le=1 << 16)
    """Most tokens of a target, with bos and eos."""
    overlong: Literal["truncate", "drop"] = "truncate"
    """What becomes of training pairs with a longer side; those that validate are truncated."""
    bucketing: bool = True
    """Make batches of pairs of about one length, which pads less."""
    target_tokenizer: TokenizerConfig | None = None
    """How targets become tokens; without it one vocabulary serves both sides."""
    copying: bool = False
    """Number the words that the vocabulary lacks, so that a model can copy them."""
    languages: tuple[Name, Name] | None = None
    """Codes of source and target such as [de, en], which choose how measures split words."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.copying and (
            self.target_tokenizer is not None or self.tokenizer.kind not in ("words", "characters")
        ):
            raise ValueError("copying needs one vocabulary for both sides, of words or characters")
        if self.turns_key is not None and self.train_target is not None:
            raise ValueError("turns_key and train_target do not go together")
        if self.pretext is not None:
            for key in ("train_target", "val_target", "target_key", "references_key", "turns_key"):
                if getattr(self, key) is not None:
                    raise ValueError(f"pretext makes the targets: leave {key} out")
        for key in ("tokenizer", "target_tokenizer"):
            tokenizer = getattr(self, key)
            if tokenizer is not None and tokenizer.specials == "none":
                raise ValueError(f"{key}.specials: none is only for running text")
        return self


class Pair(NamedTuple):
    source: str
    targets: list[str]
    """All that are right; the first one is learned."""


def read_lines(source: Texts, target: Texts) -> Iterator[list[Pair]]:
    """Lines that belong together.

    Raises:
        DataError: one source has more; names both counts.
    """
    records = zip_longest(source.records(), target.records())
    for number, (one, other) in enumerate(records):
        if one is None or other is None:
            rest = 1 + sum(1 for _ in records)
            counts = (number, number + rest) if one is None else (number + rest, number)
            raise DataError(
                f"{source.text} has {counts[0]:,} texts and {target.text} has {counts[1]:,}:"
                " they do not pair"
            )
        yield [Pair(_line(*one), [_line(*other)])]


def _line(place: Place, record: Record) -> str:
    if not isinstance(record, str):
        raise DataError(f"{place}: no plain line, as data.train_target needs")
    return record


def read_records(
    texts: Texts, config: Config, key: str = "data.train", *, references: bool
) -> Iterator[list[Pair]]:
    """The pairs of each record of what `key` names; `references` adds the targets of
    `references_key`.

    Raises:
        DataError: a record lacks a key, or holds something else than texts.
    """
    for place, record in texts.records():
        if isinstance(record, str):
            if config.pretext is not None:
                yield by_lead(record)
                continue
            raise DataError(
                f"{place}: a plain line is no pair",
                hint=f"name the other side with {key}_target, or give .tsv or .jsonl",
            )
        if config.turns_key is not None:
            said = turns(record, config.turns_key, place)
            yield list(dialogue(said, config.context_turns))
            continue
        columns = isinstance(record, list)
        source, target = config.source_key, config.target_key
        source = (0 if columns else "source") if source is None else source
        target = (1 if columns else "target") if target is None else target
        joined = " ".join(strings(field(record, source, place), source, place))
        if config.pretext is not None:
            yield by_lead(joined)
            continue
        targets = strings(field(record, target, place), target, place)
        if references and config.references_key is not None:
            more = field(record, config.references_key, place)
            targets = targets + strings(more, config.references_key, place)
        yield [Pair(joined, targets)] if targets else []


def by_lead(text: str) -> list[Pair]:
    """Each sentence as the target of the text that begins with it."""
    return [Pair(rest, [first]) for rest, first in leads(text, WINDOW)]


def dialogue(said: Sequence[str], context: int) -> Iterator[Pair]:
    """Each turn but the first as the reply to at most `context` turns before it."""
    for i in range(1, len(said)):
        yield Pair("\n".join(said[max(0, i - context) : i]), [said[i]])


def open_parts(
    config: Config, bases: Sequence[Path], *, val_only: bool = False
) -> dict[str, TextPart[list[Pair]]]:
    """What trains and what validates, by recipe key: the pairs of each record, so that none parts a
    dialogue.

    Raises:
        DataError: a source is absent, empty or cannot be read, or there are no pairs.
    """

    def part(
        train: bool, source: Sources, target: Sources | None, key: str
    ) -> TextPart[list[Pair]]:
        texts = open_texts(source, bases=bases, key=key)
        settings = [config.source_key, config.target_key, config.references_key, config.turns_key,
                    config.context_turns, config.pretext, train]  # fmt: skip
        if target is None:
            keys = [texts.digest, *settings]
            return TextPart(
                texts.text, keys, lambda: read_records(texts, config, key, references=not train)
            )
        others = open_texts(target, bases=bases, key=f"{key}_target")
        name, keys = f"{texts.text} and {others.text}", [texts.digest, others.digest, train]
        return TextPart(name, keys, lambda: read_lines(texts, others))

    held = HeldOut.parse(config.val)
    what = "pairs" if config.turns_key is None else "dialogues"
    found: dict[str, TextPart[list[Pair]]] = {}
    for name in ("data.val",) if val_only else ("data.train", "data.val"):
        training = name == "data.train"
        if held is not None:  # of the training file, with references where it validates
            whole = part(training, config.train, config.train_target, "data.train")
            found |= {name: held_apart(whole.name, whole.key, whole.__iter__, held, what)[name]}
        elif training:
            found[name] = part(True, config.train, config.train_target, name)
        else:
            found[name] = part(False, config.val, config.val_target, name)
    return found


def learned(part: TextPart[list[Pair]], *, each: bool) -> Iterator[tuple[str, str]]:
    """Source and target of every pair; with `each` a pair for each target that is right."""
    for pair in chain.from_iterable(part):
        for target in pair.targets if each else pair.targets[:1]:
            yield pair.source, target


def tokens_of(
    part: TextPart[list[Pair]],
    source: Tokenizer,
    target: Tokenizer,
    cache: Path | None,
    *,
    each: bool,
    copying: bool,
) -> Tokens:
    """Two rows for each pair, without special tokens; with `copying` as `copy_ids`."""

    def rows() -> Iterator[Piece]:
        for group in _groups(learned(part, each=each)):
            sides = tuple(zip(*group, strict=True))
            if copying:
                for pair in group:
                    yield from ((ids, True) for ids in source.copy_ids(*pair))
                continue
            for ids in zip(
                source.encode_batch(sides[0]), target.encode_batch(sides[1]), strict=True
            ):
                yield from ((side, True) for side in ids)

    key = ["pairs", source.digest, target.digest, each, copying, *part.key]
    size = 1 << 32 if copying else max(source.vocab_size, target.vocab_size)
    return token_file(cache, key, size, rows)


def _groups(pairs: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    group = []
    for pair in pairs:
        group.append(pair)
        if len(group) == PAIRS:
            yield group
            group = []
    if group:
        yield group


class TextPairs(Rows):
    """Pairs cut to their greatest lengths."""

    def __init__(
        self, tokens: Tokens, source: Tokenizer, target: Tokenizer, config: Config, *, drop: bool
    ) -> None:
        self.tokens, self.copying = tokens, config.copying
        self.limits = config.max_source - 1, config.max_target - 2
        self.vocab = source.vocab_size
        self.unk = _id(source.unk_id) if config.copying else -1
        self.source_eos = _id(source.eos_id)
        self.bos, self.eos = _id(target.bos_id), _id(target.eos_id)
        pads = {"source": _id(source.pad_id), "target": _id(target.pad_id)}
        self.pads = pads | {f"{side}_copy": pad for side, pad in pads.items()}
        sizes = tokens.lengths.reshape(-1, 2)
        whole = (sizes > 0).all(1)
        long = (sizes > self.limits).any(1) & whole
        kept = whole & ~long if drop else whole
        self.numbers: NDArray[np.intp] = np.nonzero(kept)[0]
        cut = np.minimum(sizes, self.limits)
        self.lengths = cut[kept].sum(1) + 3  # with special tokens
        lost = sizes[long].sum() if drop else (sizes - cut)[kept].sum()
        self.counts = {
            "empty": int((~whole).sum()),
            "dropped" if drop else "truncated": int(long.sum()),
        }
        self.counts["dropped tokens" if drop else "truncated tokens"] = int(lost)
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Item:
        """source (S,) and target (T,); with `copying` also source_copy and target_copy."""
        row = 2 * int(self.numbers[index])
        source = np.append(self.tokens[row][: self.limits[0]].astype(np.int64), self.source_eos)
        target = self.tokens[row + 1][: self.limits[1]].astype(np.int64)
        target = np.concatenate(([self.bos], target, [self.eos]))
        if not self.copying:
            return {"source": tensor(source), "target": tensor(target)}
        target[target > max(source.max(), self.vocab - 1)] = self.unk  # only beyond the cut
        return {
            "source": tensor(np.where(source < self.vocab, source, self.unk)),
            "target": tensor(np.where(target < self.vocab, target, self.unk)),
            "source_copy": tensor(source),
            "target_copy": tensor(target),
        }

    def texts(self, index: int) -> dict[str, object]:
        """The source as a prompt, and all targets that are right."""
        source, targets = self.behind[index]
        return {"prompt": source, "references": targets}


def _id(number: int | None) -> int:
    if number is None:
        raise DataError("data.tokenizer has no tokens for padding, begin and end of a text")
    return number


class Data(TextData):
    """Training and validation pairs, all encoded when this is built.

    Relative paths are tried against `bases` in turn. With the `spec` of a checkpoint only what
    validates is opened, and tokenizers and lengths are those of the model.

    Raises:
        DataError: a source is absent, empty or cannot be read, lines do not pair, or nothing is
            left to learn.
        MissingError: a source needs a package that is not installed.
    """

    def __init__(
        self,
        config: Config,
        *,
        seed: int,
        bases: Sequence[Path] = (),
        spec: TextPairSpec | None = None,
    ) -> None:
        cache = cache_folder(config.cache)
        parts = open_parts(config, bases, val_only=spec is not None)
        if spec is None:
            source, target = tokenizers(config, parts["data.train"], cache, bases)
            spec = TextPairSpec(
                source.to_json(),
                target.to_json(),
                config.max_source,
                config.max_target,
                config.copying,
                config.languages,
            )
        self.spec = spec
        self.source = Tokenizer.from_json(spec.source_tokenizer)
        self.target = Tokenizer.from_json(spec.target_tokenizer)
        lengths = {"max_source": spec.max_source, "max_target": spec.max_target}
        config = config.model_copy(update={**lengths, "copying": spec.copy})

        def pairs(key: str) -> TextPairs:
            training = key == "data.train"
            tokens = tokens_of(
                parts[key], self.source, self.target, cache, each=training, copying=config.copying
            )
            drop = training and config.overlong == "drop"
            return TextPairs(tokens, self.source, self.target, config, drop=drop)

        rows = {key: pairs(key) for key in parts}
        self.val = rows["data.val"]
        self.val.keep(chain.from_iterable(parts["data.val"]), self.val.numbers)
        if train := rows.get("data.train"):
            self.train = Shuffled(train, train.lengths if config.bucketing else None)
        reports = {
            key: report(parts[key].name, one, self.source, self.target) for key, one in rows.items()
        }
        self.report = require_items(rows, reports, parts)

    def examples(self, count: int) -> Iterator[str]:
        """Training pairs as text, with special tokens by name."""
        for index in range(min(count, len(self.train))):
            item = self.train.rows[index]
            source = self.source.show(item["source"].tolist())
            yield f"{source}\n=> {self.target.show(item['target'].tolist())}"


def tokenizers(
    config: Config, part: TextPart[list[Pair]], cache: Path | None, bases: Sequence[Path]
) -> tuple[Tokenizer, Tokenizer]:
    """Those of source and target, which are one where the vocabulary is shared.

    Raises: as `find_tokenizer`.
    """

    def side(number: int) -> Iterator[str]:
        return (pair[number] for pair in learned(part, each=True))

    def both() -> Iterator[str]:
        return (text for pair in learned(part, each=True) for text in pair)

    if config.target_tokenizer is None:
        shared = find_tokenizer(
            config.tokenizer,
            both,
            source=part.name,
            key=["both", *part.key],
            cache=cache,
            bases=bases,
        )
        return shared, shared
    return (
        find_tokenizer(
            config.tokenizer,
            lambda: side(0),
            source=part.name,
            key=["source", *part.key],
            cache=cache,
            bases=bases,
            role="source",
        ),
        find_tokenizer(
            config.target_tokenizer,
            lambda: side(1),
            source=part.name,
            key=["target", *part.key],
            cache=cache,
            bases=bases,
        ),
    )


def report(name: str, pairs: TextPairs, source: Tokenizer, target: Tokenizer) -> TextReport:
    sides = (source, target)
    facts = [counted(side, pairs.tokens, slice(i, None, 2)) for i, side in enumerate(sides)]
    tokens, size, unknown = (sum(values) for values in zip(*facts, strict=True))
    lengths = {side: quantiles(pairs.sizes[:, i]) for i, side in enumerate(("source", "target"))}
    count = len(pairs.sizes)
    return TextReport(name, "pairs", count, tokens, size, unknown, lengths, pairs.counts)


def example(folder: Path) -> dict[str, Any]:
    """Pairs in two columns, with words that only one pair has, so that they must be copied."""
    said = map(split_in_two, sentences())
    rows = [
        f"{subject} {rest} name{n}\t{subject} name{n}" for n, (subject, rest) in enumerate(said)
    ]
    write_lines(folder / "pairs.tsv", rows)
    return {"kind": "text_pairs", "train": str(folder / "pairs.tsv"), "val": "20%", "copying": True,
            "tokenizer": {"kind": "words", "min_count": 3}, "cache": "off"}  # fmt: skip


def suggest(config: Config, *, bases: Sequence[Path] = ()) -> Suggestions:
    """Lengths that hold most pairs, for `aigc recipe new`.

    Raises:
        DataError: as `parts`.
    """
    data, vocabulary = built_to_fit(lambda config: Data(config, seed=0, bases=bases), config)
    found: Suggestions = {
        "train": (config.train, f"{len(data.train):,} pairs train."),
        **vocabulary,
    }
    lengths = data.report["data.train"].lengths
    for side, extra in (("source", 1), ("target", 2)):
        long = lengths[side][3]
        found[f"max_{side}"] = (
            max(8, min(512, -(-(long + extra) // 8) * 8)),
            f"99 of 100 have at most {long} tokens.",
        )
    return found
