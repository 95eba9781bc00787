"""What metrics receive: things beside what they should be, sets of them, and their features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Pair:
    """What was made, what it should be, and by name what could be had without a model."""

    name: str
    preds: Any
    target: Any
    beside: Mapping[str, Any] = field(default_factory=dict)


class Corpus:
    """N things by number, and for each those it may be like (none without references), and the
    same thing of another system where there is one; read when they are asked for.
    """

    def __init__(
        self,
        names: Sequence[str],
        read: Callable[[int], Any],
        refs: Callable[[int], Sequence[Any]] = lambda number: [],
        baseline: Callable[[int], Any] | None = None,
        facts: Mapping[str, Any] | None = None,
        *,
        has_references: bool = True,
    ) -> None:
        self.names, self.read, self.refs, self.baseline = names, read, refs, baseline
        self.has_references = has_references
        """Of every thing."""
        self.facts = dict(facts or {})
        """What else to report, such as what was skipped; complete once all was read."""

    def pairs(self) -> Iterator[Pair]:
        """Each with the first thing it should be like."""
        for number, name in enumerate(self.names):
            target = next(iter(self.refs(number)), None)
            yield Pair(name, self.read(number), target)

    @property
    def preds(self) -> list[Any]:
        return [self.read(number) for number in range(len(self.names))]

    @property
    def references(self) -> list[Sequence[Any]]:
        return [self.refs(number) for number in range(len(self.names))]


@dataclass(frozen=True)
class Features:
    """Of N things: pooled (N, D), and logits (N, K) where the network has classes; float32."""

    pooled: Tensor
    logits: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def rows(self, index: slice | Tensor) -> Features:
        logits = None if self.logits is None else self.logits[index]
        return Features(self.pooled[index], logits)


class Things(ABC):
    """Numbered things that are judged, made or read when they are asked for."""

    text: str
    """What they are, for the protocol."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, numbers: Sequence[int]) -> Sequence[Any]:
        """Each as its modality has it: of images (C, H, W) in [-1, 1], rounded to 8 bits."""

    def labels(self, numbers: Sequence[int]) -> Tensor | None:
        """Class numbers, where there are classes."""
        return None

    def key(self) -> list[str] | None:
        """What the things depend on; None when their features are not worth keeping."""
        return None


class Extractor(ABC):
    """A frozen network that sees things."""

    stamp: str
    """What it is, for the protocol."""
    resize: str
    """How things come to its size."""
    levels: str = ""
    """How finely things are rounded before, where they are."""
    layers: tuple[str, ...]
    labels: tuple[str, ...] | None
    """Its classes by name, where it has some and they are known."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Of the weights and of all that becomes of a thing."""

    def see(self, things: Sequence[Any]) -> Iterator[Features]:
        """Features of things in order; here tensors, of which those of one shape make a batch."""
        import torch

        for _, same in groupby(things, lambda thing: thing.shape):
            yield self(torch.stack(list(same)))

    @abstractmethod
    def __call__(self, images: Tensor) -> Features:
        """Features of a batch (B, ...)."""

    @abstractmethod
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Two batches -> (B,), how different they look to it."""


@dataclass(frozen=True)
class Side:
    """A set in the place of the generated one, the real set, and the training set. Features are
    there for metrics with an extractor; `classes` names the class numbers of what was made.
    """

    things: Things
    real_things: Things | None = None
    train_things: Things | None = None
    fake: Features | None = None
    real: Features | None = None
    train: Features | None = None
    extractor: Extractor | None = None
    classes: tuple[str, ...] | None = None
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: str, function: Callable[[], T]) -> T:
        """The result of the function, kept for other metrics that ask under the same key."""
        if key not in self._kept:
            self._kept[key] = function()
        found: T = self._kept[key]
        return found

    @property
    def pooled(self) -> tuple[Tensor, Tensor]:
        """Features of real and of fake things, (M, D) and (N, D)."""
        assert self.real is not None
        assert self.fake is not None
        return self.real.pooled, self.fake.pooled

    @property
    def logits(self) -> Tensor:
        """Of the fake things, (N, K)."""
        assert self.fake is not None
        assert self.fake.logits is not None
        return self.fake.logits


@dataclass(frozen=True)
class Sets:
    """What is compared with what. `train` is where copies may come from.

    `other` are further real things, whose value against `reference` is the floor; `inputs` are
    what was made into the generated ones; `held_out` real things that are not in `train`.
    `classes` names the class numbers of generated things; `made`: by a model, in any number.
    """

    generated: Things
    reference: Things | None = None
    train: Things | None = None
    other: Things | None = None
    held_out: Things | None = None
    inputs: Things | None = None
    classes: tuple[str, ...] | None = None
    made: bool = False

    def side(self, things: Things | None, extractor: Extractor | None) -> Side | None:
        """These things in the place of the generated ones, without features."""
        if things is None:
            return None
        return Side(things, self.reference, self.train, extractor=extractor, classes=self.classes)
