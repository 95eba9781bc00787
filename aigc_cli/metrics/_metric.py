"""What a metric is: one file, `metrics/<modality>/<name>.py`, that defines `class Metric`.

Its base says what it compares, and so what `compute` takes:

| base           | of     | compute(...)                                                           |
|----------------|--------|------------------------------------------------------------------------|
| `ItemMetric`   | item   | one thing -> number                                                    |
| `PairMetric`   | pair   | a thing and what it should be -> number                                |
| `CorpusMetric` | corpus | all things and, for each, those it may be like -> `Measured`           |
| `SetMetric`    | set    | a set of things beside another set (`Side`) -> number (and std)      |

A thing is whatever the modality hands out: uint8 pixels (H, W, C) of images, strings.
Facts are literals, so that `aigc evaluate --metric list` reads them without importing the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aigc_cli.recipe.sections import Section

if TYPE_CHECKING:
    from aigc_cli.metrics._corpus import Measured
    from aigc_cli.metrics._things import Extractor, Side

Form = Literal["item", "pair", "corpus", "set"]


class Metric(ABC):
    """Base of all metrics; a file derives from one of the four below."""

    name: ClassVar[str] = ""
    """That of its file."""
    of: ClassVar[Form]
    higher_is_better: ClassVar[bool]
    protocol: ClassVar[str]
    """How it is measured, without which the number is no result; `{key}` is that option's value."""
    unit: ClassVar[str] = ""
    """dB, %, or the range of the score."""
    reference: ClassVar[bool] = True
    """Whether it compares with what should be there."""

    class Options(Section):
        """What `METRIC.KEY=VALUE` may set."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.name = cls.__module__.rpartition(".")[2]

    def __init__(self, options: Section | None = None) -> None:
        self.options: Any = self.Options() if options is None else options
        self.extractor: Extractor | None = None
        """Opened by whoever evaluates, where `Options` has a field `extractor`."""

    def own_extractor(self, name: str) -> Extractor | None:
        """What sees things under this name of the option `extractor`, where it needs no weights."""
        return None

    def prepare(self, device: str = "cpu") -> None:  # noqa: B027 - most need nothing
        """Load what `compute` needs, once.

        Raises:
            MissingError, CheckpointError: a package or weights are absent or damaged.
        """

    def describe(self) -> str:
        """The protocol with the options in it."""
        return self.protocol.format(**self.options.model_dump())


class ItemMetric(Metric):
    """A number for each thing by itself."""

    of = "item"
    reference = False

    @abstractmethod
    def compute(self, thing: Any) -> float:
        """
        Raises:
            DataError: the thing cannot be measured.
        """


class PairMetric(Metric):
    """A number for each thing beside what it should be."""

    of = "pair"

    @abstractmethod
    def compute(self, preds: Any, target: Any) -> float:
        """
        Raises:
            DataError: the two cannot be compared.
        """

    def variants(self) -> dict[str, PairMetric]:
        """The same with other options whose value belongs beside it, by the title of a column."""
        return {}


class CorpusMetric(Metric):
    """A number for all things together, of statistics of each that add up."""

    of = "corpus"

    @abstractmethod
    def compute(self, preds: Sequence[Any], refs: Sequence[Sequence[Any]]) -> Measured:
        """refs: for each thing one or more that it may be like."""

    def check(self, preds: Sequence[Any], refs: Sequence[Sequence[Any]]) -> None:
        """See that the things can be scored so.

        Raises:
            InputError: an option does not fit them.
        """


class SetMetric(Metric):
    """A number for a set of things, mostly beside a set of real ones."""

    of = "set"
    smallest: ClassVar[int] = 2
    """The least number of things it is defined for."""
    classes: ClassVar[bool] = False
    """Whether it needs an extractor with classes."""
    train: ClassVar[bool] = False
    """Whether it looks at what the model has learned from."""

    @abstractmethod
    def compute(self, side: Side) -> float | tuple[float, float]:
        """The value, and where there are subsets or splits its standard deviation over them."""

    def notes(self, side: Side) -> list[str]:
        """What to tell of a value that misleads, such as one of too few things."""
        return []

    def check(self, side: Side) -> None:
        """See that the sets suffice, before anything is made or extracted.

        Raises:
            InputError: they do not.
        """
