"""What augmentation is to the command: how the items of a data set are read, varied and written.

A file `augment/<modality>.py`, or `<kind>.py` for a kind of data of its own, defines
`Augmentation`, a subclass of the one here. run/ knows only this contract: what is counted, drawn,
kept in the journal and measured is the same for all.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from aigc_cli.data._stream import item_seed
from aigc_cli.modalities._modality import Task
from aigc_cli.recipe.load import Recipe
from aigc_cli.recipe.sections import Section

Operation = dict[str, Any]
"""What was done to an item: `name`, and its amounts as plain numbers."""


class Part(ABC):
    """Numbered items of a data set, read when they are asked for; travels to worker processes."""

    text: str
    """What the user calls it, for messages."""
    left_out: Mapping[str, int] = MappingProxyType({})
    """What was passed over when it was opened: how many, by kind."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, number: int) -> str:
        """Where the item comes from, for people and for the record."""

    @abstractmethod
    def labels(self) -> Sequence[str] | None:
        """The class of each item; None where there are no classes."""

    @abstractmethod
    def read(self, number: int) -> Any:
        """The thing.

        Raises:
            DataError: it cannot be used; names it.
        """

    @abstractmethod
    def digest(self, thing: Any) -> str:
        """By which a thing is known again, whatever file it lies in."""

    def digests_of_parts(self, thing: Any) -> Sequence[str]:
        """Of what is a thing by itself in it, such as the sides of a pair."""
        return ()


@dataclass(frozen=True)
class Varied:
    """A thing that was made of others."""

    thing: Any
    operations: Sequence[Operation]
    sources: Sequence[int] = ()
    """Numbers of further items that went in, such as what was mixed."""


@dataclass(frozen=True)
class Written:
    """An item of the new set: a file of its own, or a row of a common one."""

    path: str
    """Relative to the output folder, with `/`."""
    data: bytes
    """The content of the file, or the row."""
    is_row: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the line of the list says of it besides, such as where objects are."""

    @property
    def row(self) -> bytes | None:
        return self.data if self.is_row else None

    def line(self, split: str, label: str | None, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Of the list; `facts` say how it came about."""
        named = {} if label is None else {"label": label}
        sha256 = hashlib.sha256(self.data).hexdigest()
        return {"path": self.path, "split": split, **named, **facts, **self.facts, "sha256": sha256}


@dataclass
class Draw:
    """The randomness of one new item: all of it follows from (seed, number)."""

    seed: int
    number: int
    generator: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.item_seed = item_seed(self.seed, self.number) >> 1  # what a generator takes
        self.generator = torch.Generator().manual_seed(self.item_seed)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def below(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def happens(self, probability: float) -> bool:
        return self.uniform(0, 1) < probability


class Augmentation(ABC):
    """The contract of `augment/<modality>.py` and `augment/<kind>.py`."""

    Options: ClassVar[type[Section]] = Section
    """The classical operations and their amounts: `aigc augment DATA KEY=VALUE`."""
    yardstick: ClassVar[str | None]
    """The recipe that `--measure` trains where none is named; None: nothing measures such data."""
    made_of: ClassVar[str | None] = None
    """The modality of what models draw, where that is only a part of an item (`composed`)."""

    def __init__(self, options: Any) -> None:
        self.options = options

    @abstractmethod
    def open(self, source: str, key: str, data: Sequence[str]) -> Part:
        """The items of a source; `key` is what messages call it, `data` how it is read, as
        KEY=VALUE of the kind of data.

        Raises:
            DataError: it cannot be used. RecipeError: wrong keys in `data`.
        """

    @abstractmethod
    def open_recipe(self, recipe: Recipe) -> Mapping[str, Part]:
        """`train` and `val` of a recipe's data.

        Raises:
            DataError: it cannot be used.
        """

    @abstractmethod
    def vary(self, thing: Any, part: Part, number: int, peers: Sequence[int], draw: Draw) -> Varied:
        """`thing`, which is item `number` of the part, changed by the classical operations; `peers`
        are the items of its class.
        """

    @abstractmethod
    def write(self, out: Path, split: str, stem: str, label: str | None, thing: Any) -> Written:
        """Write a thing as a file, or make the row of it. The same thing gives the same bytes.

        Raises:
            OutputError: it cannot be written. DiskFullError: no space left.
        """

    def finish(self, out: Path, lines: Iterable[Mapping[str, Any]]) -> None:  # noqa: B027
        """Write what describes the whole set, of all its lines; called once all items are there.

        Raises:
            OutputError, DiskFullError: it cannot be written.
        """

    # What models make, for `--with`.

    def made_classes(self, part: Part) -> Sequence[str] | None:
        """The classes of what models draw, for the items of a part; None where there are none."""
        return part.labels()

    def composed(
        self, thing: Any, part: Part, draw: Draw, made: Callable[[str], Any]
    ) -> tuple[Any, Sequence[Operation]]:
        """A training thing into which goes what a model draws, where `made_of` says so: `made`
        gives a thing of that modality, of a class. Asked for only where `made_of` names one.
        """
        raise NotImplementedError(f"{type(self).__module__}: made_of without composed")

    def asks(self) -> bool:
        """Whether models are given a training item even where they could draw without one."""
        return False

    def asked(self, part: Part) -> Part:
        """The items that models answer: training items, or others that are answered once each."""
        return part

    def question(self, thing: Any) -> Any:
        """What of an item the first model is given."""
        return thing

    def answered(self, thing: Any, made: Any) -> Any:
        """The new thing, of an item and what the last model made of it."""
        return made

    @abstractmethod
    def given(self, thing: Any, label: str, task: Task) -> Any:
        """A thing of a class ("" where there are none) as `Model.sample` takes it."""

    @abstractmethod
    def thing_of_made(self, made: Any) -> Any:
        """What a model made as a thing of the set."""

    @abstractmethod
    def read_back(self, out: Path, line: Mapping[str, Any]) -> Any:
        """The thing that was written as this line of the list says."""

    @abstractmethod
    def features(self, thing: Any) -> Tensor:
        """(D,), near for things that people call copies of each other."""

    def unfit(self, thing: Any) -> str | None:
        """Why a made thing is none for a data set, such as an empty text."""
        return None

    @abstractmethod
    def part_for(self, out: Path, name: str, lines: Iterable[Mapping[str, Any]]) -> str:
        """A source of data of only these lines of the written set, as file `name` in `out`."""

    @abstractmethod
    def trains_on(self, out: Path) -> Mapping[str, str]:
        """KEY=VALUE of a recipe's `data` that read the written set."""
