"""Base of the families that name the class of what they are given."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.metrics.labels._classes import by_class, count
from aigc_cli.models._base import Batch
from aigc_cli.models._yardstick import Scores, YardstickModule
from aigc_cli.sampling.noise import SampleNoise


class ClassifierModule(YardstickModule):
    """`takes` says what it is given; the classes are `spec.labels`."""

    makes: ClassVar[str] = "labels"
    scores: ClassVar = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
    decisive: ClassVar = "macro_f1"
    class_score: ClassVar = "recall"
    of_classes: ClassVar = True

    embeds: ClassVar[bool] = False
    """Whether `embed` gives features, in which sets can be compared."""

    def embed(self, things: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """Features (N, D) before the last layer and logits (N, K) of things as metrics receive
        them.
        """
        raise TypeError(f"{type(self).__module__} embeds nothing")

    @abstractmethod
    def classify(self, batch: Batch) -> Tensor:
        """Probabilities (B, K) of the classes in `spec.labels` for the items of a batch, which need
        no label.
        """

    @abstractmethod
    def batch_of(self, things: Sequence[Any]) -> Batch:
        """A batch without labels, on the CPU: of images (C, S, S) at the size trained with, of
        texts, or whatever `takes` says.
        """

    def classify_things(self, things: Sequence[Any]) -> Tensor:
        """As `classify`, of things as `batch_of` takes them."""
        batch = self.batch_of(things)
        return self.classify({name: values.to(self.device) for name, values in batch.items()})

    def score(self, batches: Iterable[Batch]) -> Scores:
        names: Sequence[str] = self.spec.labels  # type: ignore[attr-defined]
        preds: list[int] = []
        target: list[int] = []
        for batch in batches:
            preds += self.classify(batch).argmax(1).tolist()
            target += batch["label"].tolist()
        rows = by_class(count([names[i] for i in preds], [names[i] for i in target], names), names)
        present = [row for row in rows if row["n"]]
        return Scores(
            {
                "accuracy": float(np.mean(np.equal(preds, target))),
                "macro_f1": float(np.mean([row["f1"] or 0.0 for row in present])),
            },
            {row["class"]: row["recall"] for row in present},
            len(target),
        )

    def sample(
        self, noise: SampleNoise, options: Any, given: Any = None, references: Any = ()
    ) -> NoReturn:
        """A classifier makes labels: see `classify`."""
        raise TypeError(f"{type(self).__module__} classifies and makes no samples")


@dataclass(frozen=True)
class Judge:
    """A frozen classifier. `saved` is plain data that it can be built from again, with `stamp`,
    which says what it is.
    """

    model: ClassifierModule
    saved: dict[str, Any]

    @property
    def stamp(self) -> str:
        return str(self.saved["stamp"])

    def state(self) -> dict[str, Any]:
        return self.saved

    @property
    def labels(self) -> Sequence[str]:
        names: Sequence[str] = self.model.spec.labels  # type: ignore[attr-defined]
        return names

    def probabilities(self, label: str, texts: Sequence[str]) -> list[float]:
        """How likely each text is of a class, in float32 whatever trains; 0 for an empty one."""
        with torch.autocast(self.model.device.type, enabled=False):
            found = self.model.classify_things(texts)[:, list(self.labels).index(label)]
        return [p if text.strip() else 0.0 for p, text in zip(found.tolist(), texts, strict=True)]


def judged(logits: Tensor, label: Tensor) -> dict[str, Tensor]:
    """`accuracy` and `cross_entropy` of each item, (B,), for logits (B, K) and labels (B,)."""
    return {
        "accuracy": (logits.argmax(1) == label).float(),
        "cross_entropy": F.cross_entropy(logits, label, reduction="none"),
    }


def decayed(weights: Iterable[Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Groups of an optimizer: matrices and kernels decay, biases and normalizations do not."""
    weights = list(weights)
    return [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
    ]
