"""Texts: edits of their words, and what models answer; written as rows of JSONL.

The edits are those of EDA (Wei and Zou, 2019, https://arxiv.org/abs/1901.11196). Differs from it:

* no thesaurus is shipped, so words are replaced only by those of a file of the user's;
* what is inserted are words of another text of the class, not synonyms.

Texts are held in memory, unlike images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from aigc_cli.augment import _augmentation
from aigc_cli.augment._augmentation import Draw, Operation, Varied, Written
from aigc_cli.data._images import Sources
from aigc_cli.data._rows import open_parts
from aigc_cli.data._text_files import TextFile, open_texts
from aigc_cli.data.labelled_texts import Config, Labeled, read, read_names
from aigc_cli.errors import DataError, InputError
from aigc_cli.media.files import write_bytes
from aigc_cli.modalities._modality import Task
from aigc_cli.modalities.text import Unread
from aigc_cli.recipe.load import Recipe, section_from_texts
from aigc_cli.recipe.sections import Name, Section

BINS = 512  # into which words and pairs of words are hashed, to compare texts


class Options(Section):
    """How texts are varied: one of the edits that are not 0 for each new text, at random."""

    delete: float = Field(0.1, ge=0, lt=1)
    """Part of the words that are left out."""
    swap: float = Field(0.1, ge=0, lt=1)
    """Part of the words that change places with another one."""
    insert: float = Field(0.1, ge=0, lt=1)
    """Words of another text of its class that come in, as a part of its own."""
    replace: float = Field(0.2, ge=0, lt=1)
    """Part of the words with synonyms that are replaced; needs `synonyms`."""
    synonyms: Name | None = None
    """File with words that mean the same in each line, with commas; none is shipped."""
    prompt: Name | None = None
    """What a model of --with is asked, with {text} and {label} filled in; by default the text."""
    min_words: int = Field(2, ge=1)
    """Shorter texts that a model made are dropped."""
    max_words: int = Field(256, ge=1)
    """Longer texts that a model made are dropped."""


class Reading(Config):
    """How a source that is no recipe is read: as `labelled_texts` reads it."""

    train: Sources = "DATA"
    """The source itself, which is named elsewhere."""


def digest(text: str) -> str:
    """Of its words, without case and white space."""
    return blake2b(" ".join(text.casefold().split()).encode(), digest_size=16).hexdigest()


class TextItems(_augmentation.Part):
    """Texts of one class each, or of none."""

    def __init__(self, text: str, items: Iterable[Labeled]) -> None:
        self.text = text
        self.items = [item for item in items if item.text.strip() and len(item.labels) < 2]
        if any(item.labels for item in self.items):
            self.items = [item for item in self.items if item.labels]

    def __len__(self) -> int:
        return len(self.items)

    def name(self, number: int) -> str:
        return f"{self.text} #{number + 1}"

    def labels(self) -> Sequence[str] | None:
        if not self.items or not self.items[0].labels:
            return None
        return [item.labels[0] for item in self.items]

    def read(self, number: int) -> str:
        return self.items[number].text

    def digest(self, thing: str) -> str:
        return digest(thing)


class Augmentation(_augmentation.Augmentation):
    """Texts."""

    Options = Options
    yardstick: ClassVar[str | None] = "text_classifier_demo"

    def open(self, source: str, key: str, data: Sequence[str]) -> _augmentation.Part:
        config = section_from_texts(Reading, data, "data")
        texts = open_texts(source, key=key)
        if texts.is_running:  # a text a line, without classes
            lines = (Labeled(str(line), ()) for _, line in texts.records())
            return TextItems(source, lines)
        names = read_names(config.labels, ()) if config.labels is not None else None
        return TextItems(source, read(texts, config, names))

    def open_recipe(self, recipe: Recipe) -> Mapping[str, _augmentation.Part]:
        config = recipe.data
        if not isinstance(config, Config):
            raise DataError(
                f"recipe '{recipe.name}': data of kind '{recipe.kind}' is not augmented",
                hint="name a recipe with data of kind labelled_texts or text_pairs, or the texts "
                "themselves",
            )
        names = read_names(config.labels, recipe.bases) if config.labels is not None else None
        parts = open_parts(
            config, recipe.bases, lambda texts: read(texts, config, names), "texts", key=[]
        )
        return {
            key.removeprefix("data."): TextItems(part.name, part) for key, part in parts.items()
        }

    def vary(self, thing: Any, part: Any, number: int, peers: Sequence[int], draw: Draw) -> Varied:
        return self.edited(thing, [peer for peer in peers if peer != number], part.read, draw)

    def edited(
        self, text: str, others: Sequence[int], read: Callable[[int], str], draw: Draw
    ) -> Varied:
        """The text after one edit; `others` are items whose texts, which `read` gives, may lend
        words.

        Raises:
            InputError: there are no edits.
        """
        words = text.split()
        edits = [name for name in ("delete", "swap", "insert") if getattr(self.options, name)]
        if self.synonyms and self.options.replace:
            edits.append("replace")
        if not edits:
            raise InputError("all edits are 0, so new texts would be copies")
        edit, sources = edits[draw.below(len(edits))], []
        count = max(1, round(getattr(self.options, edit) * len(words)))
        if edit == "insert" and others:
            sources = [others[draw.below(len(others))]]
            words, done = inserted(words, read(sources[0]).split(), count, draw)
        elif edit == "replace":
            words, done = replaced(words, self.synonyms, count, draw)
        elif edit == "delete":
            words, done = deleted(words, count, draw)
        else:
            words, done = swapped(words, count, draw)
        return Varied(" ".join(words), [done], sources)

    @cached_property
    def synonyms(self) -> dict[str, list[str]]:
        """Of each word those that mean the same.

        Raises:
            DataError: there is no such file, or a line has fewer than two words.
        """
        if self.options is None or self.options.synonyms is None:
            return {}
        path = Path(self.options.synonyms)
        if not path.is_file():
            raise DataError(f"synonyms: {str(path)!r} does not exist")
        found: dict[str, list[str]] = {}
        for number, line in enumerate(TextFile(path).lines(), 1):
            group = [word.strip() for word in line.split(",") if word.strip()]
            if len(group) < 2:
                raise DataError(f"synonyms: {path.name}:{number}: a line has two words or more")
            for word in group:
                found.setdefault(word.casefold(), []).extend(w for w in group if w != word)
        return found

    def write(self, out: Path, split: str, stem: str, label: str | None, thing: Any) -> Written:
        row = {"text": thing} if label is None else {"text": thing, "label": label}
        return written_row(split, row)

    def given(self, thing: str, label: str, task: Task) -> str:
        prompt = self.options.prompt or "{text}"
        return str(prompt.replace("{text}", thing).replace("{label}", label))

    def asks(self) -> bool:
        return self.options.prompt is not None

    def thing_of_made(self, made: Any) -> str:
        return "" if isinstance(made, Unread) else " ".join(made.text.split())

    def read_back(self, out: Path, line: Mapping[str, Any]) -> Any:
        return str(json.loads(row_of(out, line))["text"])

    def features(self, thing: Any) -> Tensor:
        """How often words and pairs of words are in it, hashed, of length 1."""
        words = re.findall(r"\w+", thing.casefold())
        found = torch.zeros(BINS)
        for one in (*words, *(f"{a} {b}" for a, b in pairwise(words))):
            found[int.from_bytes(blake2b(one.encode(), digest_size=4).digest()) % BINS] += 1
        return found / found.norm().clamp(min=1e-9)

    def unfit(self, thing: Any) -> str | None:
        count = len(thing.split())
        if count < self.options.min_words:
            return "too short"
        return "too long" if count > self.options.max_words else None

    def part_for(self, out: Path, name: str, lines: Iterable[Mapping[str, Any]]) -> str:
        path = out / f"{name}.jsonl"
        write_bytes(path, b"".join(row_of(out, line) for line in lines))
        return str(path)

    def trains_on(self, out: Path) -> Mapping[str, str]:
        return {"train": str(out / "train.jsonl"), "val": str(out / "val.jsonl")}


def written_row(split: str, row: Mapping[str, Any]) -> Written:
    data = (json.dumps(row, ensure_ascii=False) + "\n").encode()
    return Written(f"{split}.jsonl", data, is_row=True)


def row_of(out: Path, line: Mapping[str, Any]) -> bytes:
    """The row of a common file that a line of the list names."""
    with (out / line["path"]).open("rb") as file:
        file.seek(line["start"])
        return file.read(line["end"] - line["start"])


# -- the edits: words -> words, and what was done --------------------------------------------------


def deleted(words: Sequence[str], count: int, draw: Draw) -> tuple[list[str], Operation]:
    """Without `count` of its words; the last one stays."""
    left = list(words)
    gone = [left.pop(draw.below(len(left))) for _ in range(min(count, len(left) - 1))]
    return left, {"name": "delete", "words": gone}


def swapped(words: Sequence[str], count: int, draw: Draw) -> tuple[list[str], Operation]:
    """`count` times two words change places, if there are two."""
    moved, places = list(words), []
    for _ in range(count if len(moved) > 1 else 0):
        a = draw.below(len(moved))
        b = (a + 1 + draw.below(len(moved) - 1)) % len(moved)
        moved[a], moved[b] = moved[b], moved[a]
        places.append([a, b])
    return moved, {"name": "swap", "places": places}


def inserted(
    words: Sequence[str], other: Sequence[str], count: int, draw: Draw
) -> tuple[list[str], Operation]:
    """`count` words of another text at any place."""
    longer, new = list(words), []
    for _ in range(count):
        new.append(other[draw.below(len(other))])
        longer.insert(draw.below(len(longer) + 1), new[-1])
    return longer, {"name": "insert", "words": new}


def replaced(
    words: Sequence[str], synonyms: Mapping[str, Sequence[str]], count: int, draw: Draw
) -> tuple[list[str], Operation]:
    """`count` of the words that have synonyms by one of these."""
    changed, done = list(words), []
    places = [i for i, word in enumerate(words) if word.casefold() in synonyms]
    for _ in range(min(count, len(places))):
        place = places.pop(draw.below(len(places)))
        choices = synonyms[changed[place].casefold()]
        new = choices[draw.below(len(choices))]
        done.append([changed[place], new])
        changed[place] = new
    return changed, {"name": "replace", "words": done}
