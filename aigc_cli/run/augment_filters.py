"""What the items that models make must pass.

Dropped are items whose class a classifier does not see, copies of training items (nearer to one
than training items are to each other, but for a hundredth of them) and items that are as near to
one already accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from aigc_cli.augment._augmentation import Augmentation, Operation
from aigc_cli.errors import InputError
from aigc_cli.metrics.image._neighbors import nearest, nearest_others
from aigc_cli.modalities import find_modality
from aigc_cli.modalities._modality import Input, Task
from aigc_cli.models._classifier import ClassifierModule
from aigc_cli.run.augment_sources import Looked, Sources
from aigc_cli.run.augmenting import Augmenting
from aigc_cli.run.trained import Trained
from aigc_cli.run.workers import in_order

SAMPLED = 2000  # training items whose nearest other one is looked for
QUANTILE = 0.01

Score = Mapping[str, float]
"""`confidence` of the judge, distance to the `nearest` training item, and its `threshold`."""


@dataclass(frozen=True)
class Candidate:
    """What a model made, before the filters."""

    index: int
    thing: Any
    source: int | None = None
    """The training item it answers."""
    operations: Sequence[Operation] = ()
    """What was drawn into that item, where it is only a part of it."""


class _Features:
    """Features of training items, over processes."""

    def __init__(self, augmentation: Augmentation, looked: Looked, items: Sequence[int]) -> None:
        self.augmentation, self.looked, self.items = augmentation, looked, items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, number: int) -> Tensor:
        return self.augmentation.features(self.looked.part.read(self.items[number]))


@dataclass
class Filters:
    """What a candidate must pass; knows the training items and what was accepted."""

    sources: Sources
    request: Augmenting
    judge: Trained | None
    """A classifier that must see the class."""
    composes: bool
    """Whether most of a candidate is a training item."""
    accepted: dict[str, _Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.augmentation = self.sources.augmentation
        items = [item for members in self.sources.members.values() for item in members]
        work = _Features(self.augmentation, self.sources.train, items)
        self.train = torch.stack(list(in_order(work, self.request.workers)))
        self.threshold = 0.0
        if len(self.train) > 1:
            chosen = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(0))
            some = self.train[chosen[:SAMPLED]]
            others = nearest(some, self.train, 2) if len(some) < len(self.train) else None
            distance = (
                nearest_others(some).distance[:, 0] if others is None else others.distance[:, 1]
            )
            self.threshold = float(distance.quantile(QUANTILE))

    def accept(self, label: str, thing: Any) -> None:
        self.accepted.setdefault(label, _Rows()).add(self.augmentation.features(thing))

    def look(self, label: str, batch: Sequence[Candidate]) -> list[Score]:
        """What each candidate is judged by, but for those accepted before it."""
        features = torch.stack([self.augmentation.features(one.thing) for one in batch])
        nearest = torch.cdist(features, self.train).amin(1).tolist()
        threshold = {"threshold": round(self.threshold, 4)}
        scores: list[Score] = [{"nearest": round(distance, 4), **threshold} for distance in nearest]
        if self.judge is not None and label:
            seen = self._confidence(label, [one.thing for one in batch])
            scores = [{"confidence": round(p, 4), **s} for p, s in zip(seen, scores, strict=True)]
        return scores

    def reason(self, label: str, one: Candidate, score: Score) -> str | None:
        """Why a candidate is dropped; None where it passes."""
        if (why := self.augmentation.unfit(one.thing)) is not None:
            return why
        if self.composes:
            return None
        if score.get("confidence", 1.0) < self.request.min_confidence:
            return "unsure of their class"
        if score["nearest"] <= score["threshold"]:
            return "copies of training items"
        if label in self.accepted:
            features = self.augmentation.features(one.thing)[None]
            if float(torch.cdist(features, self.accepted[label].rows).min()) <= self.threshold:
                return "near duplicates"
        return None

    def _confidence(self, label: str, things: Sequence[Any]) -> list[float]:
        judge = self.judge
        assert judge is not None
        model, labels = judge.model, getattr(judge.spec, "labels", ())
        if not isinstance(model, ClassifierModule) or label not in labels:
            raise InputError(f"--judge {self.request.judge}: does not tell class '{label}'")
        takes = find_modality(self.sources.modality)
        inputs = [Input("", thing, thing) for thing in things]
        with torch.no_grad():
            p = model.classify_things(takes.fitted(inputs, Task(model, judge.recipe)))
        return p[:, labels.index(label)].tolist()


class _Rows:
    """Rows that are added one by one to a matrix."""

    def __init__(self) -> None:
        self._held, self._count = torch.empty(0), 0

    @property
    def rows(self) -> Tensor:
        return self._held[: self._count]

    def add(self, row: Tensor) -> None:
        if self._count == len(self._held):  # room for twice as many
            more = row.new_empty((max(16, 2 * self._count), len(row)))
            more[: self._count] = self._held[: self._count] if self._count else more[:0]
            self._held = more
        self._held[self._count] = row
        self._count += 1
