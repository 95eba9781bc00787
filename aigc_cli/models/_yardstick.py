"""Base of the families whose scores say what data is worth (`aigc augment --measure`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from aigc_cli.models._base import Batch, GenerativeModule


@dataclass(frozen=True)
class Scores:
    """How well a model does on held-out items."""

    whole: Mapping[str, float]
    """A value for each key of `scores`."""
    classes: Mapping[str, float]
    """`class_score` of each class that there is."""
    count: int
    """Items."""


class YardstickModule(GenerativeModule):
    """A family that is scored on held-out items, the whole and class by class."""

    scores: ClassVar[Mapping[str, str]]
    """Keys of the scores, all better when higher, and what tables call them."""
    decisive: ClassVar[str]
    """The key by which data is called better or worse."""
    class_score: ClassVar[str]
    """What a class is scored by, in words."""
    of_classes: ClassVar[bool]
    """Whether each item must be of a class."""

    @classmethod
    def require_scores(cls) -> None:
        """Asked for before hours of training.

        Raises:
            MissingError: a package that scores is not installed.
        """

    @abstractmethod
    def score(self, batches: Iterable[Batch]) -> Scores:
        """Of batches on the device of the model."""
