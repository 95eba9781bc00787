"""Pairs of texts: sources whose words are edited, and sides that a model writes.

Back-translation (Sennrich et al., 2016, https://arxiv.org/abs/1511.06709): texts of the target
language alone get the sources that a model of the other direction writes. With `writes=target` a
model of the same direction writes targets of sources (Zhang and Zong, 2016,
https://aclanthology.org/D16-1160).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from aigc_cli.augment import _augmentation, text
from aigc_cli.augment._augmentation import Draw, Varied, Written
from aigc_cli.augment.text import digest, row_of, written_row
from aigc_cli.data._text_files import open_texts
from aigc_cli.data.text_pairs import Config, Pair, open_parts
from aigc_cli.errors import DataError, InputError
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Name


class Options(text.Options):
    """How sources are edited, and which side a model of --with writes."""

    writes: Literal["source", "target"] = "source"
    """The side that a model of --with writes of the other one."""
    alone: Name | None = None
    """File of texts of the other side, a line each, which become pairs once each; without it the
    model writes anew what stands beside training texts.
    """


class Pairs(_augmentation.Part):
    """Pairs whose two sides are there; with `halves` also those that lack one."""

    def __init__(self, name: str, pairs: Iterable[Pair], *, halves: bool = False) -> None:
        self.text, self.halves = name, halves
        enough = any if halves else all
        self.items = [p for p in pairs if enough(map(str.strip, [p.source, *p.targets[:1]]))]

    def __len__(self) -> int:
        return len(self.items)

    def name(self, number: int) -> str:
        return f"{self.text} #{number + 1}"

    def labels(self) -> None:
        return None

    def read(self, number: int) -> Pair:
        return self.items[number]

    def digest(self, thing: Pair) -> str:
        """Of both sides, whichever is the source; of the only one if the other is missing."""
        sides = sorted(self.digests_of_parts(thing))
        return sides[0] if len(sides) == 1 else digest(" ".join(sides))

    def digests_of_parts(self, thing: Pair) -> list[str]:
        return [digest(side) for side in (thing.source, *thing.targets) if side.strip()]


class Augmentation(text.Augmentation):
    """Pairs of texts."""

    Options = Options
    yardstick = None

    def open(self, source: str, key: str, data: Sequence[str]) -> Pairs:
        raise InputError(
            f"{key} {source}: pairs of texts are named by a recipe",
            hint="give a recipe with data.train=, data.val= and data.train_target=",
        )

    def open_recipe(self, recipe: Recipe) -> Mapping[str, Pairs]:
        config = recipe.data
        if not isinstance(config, Config):
            raise DataError(f"recipe '{recipe.name}': its data are no pairs of texts")
        return {
            key.removeprefix("data."): Pairs(part.name, chain.from_iterable(part))
            for key, part in open_parts(config, recipe.bases).items()
        }

    def vary(self, thing: Pair, part: Any, number: int, peers: Sequence[int], draw: Draw) -> Varied:
        others = [peer for peer in peers if peer != number]
        varied = self.edited(thing.source, others, lambda item: part.read(item).source, draw)
        return Varied(Pair(varied.thing, thing.targets), varied.operations, varied.sources)

    def write(self, out: Path, split: str, stem: str, label: str | None, thing: Any) -> Written:
        targets = thing.targets if len(thing.targets) > 1 else thing.targets[0]
        row = {"source": thing.source, "target": targets}
        return written_row(split, row)

    @cached_property
    def _alone(self) -> Pairs | None:
        """Texts without the side that a model writes.

        Raises:
            DataError: there are none.
        """
        if self.options.alone is None:
            return None
        texts = open_texts(self.options.alone, key="alone")
        if not texts.is_running:
            raise DataError(f"alone: {self.options.alone} must be plain text, a text a line")
        lines = (str(line) for _, line in texts.records())
        missing_source = self.options.writes == "source"
        pairs = (Pair("", [line]) if missing_source else Pair(line, []) for line in lines)
        found = Pairs(texts.text, pairs, halves=True)
        if not len(found):
            raise DataError(f"alone: {self.options.alone} is empty")
        return found

    def asks(self) -> bool:
        return True

    def asked(self, part: _augmentation.Part) -> _augmentation.Part:
        return self._alone or part

    def question(self, thing: Pair) -> str:
        return thing.targets[0] if self.options.writes == "source" else thing.source

    def answered(self, thing: Pair, made: str) -> Pair:
        if self.options.writes == "source":
            return Pair(made, thing.targets)
        return Pair(thing.source, [made])

    def read_back(self, out: Path, line: Mapping[str, Any]) -> Pair:
        row = json.loads(row_of(out, line))
        targets = row["target"]
        return Pair(row["source"], targets if isinstance(targets, list) else [targets])

    def features(self, thing: Pair) -> Tensor:
        """Those of both sides."""
        sides = (thing.source, *thing.targets[:1])
        return torch.cat([super(Augmentation, self).features(side) for side in sides])

    def unfit(self, thing: Pair) -> str | None:
        made = thing.source if self.options.writes == "source" else thing.targets[0]
        return super().unfit(made)

    def trains_on(self, out: Path) -> Mapping[str, str]:
        return {
            **super().trains_on(out), "train_target": "null", "val_target": "null",
            "source_key": "source", "target_key": "target",
        }  # fmt: skip
