"""FID and its kin: sets of pictures compared by features, with the protocol beside the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from aigc_cli.errors import DataError, InputError
from aigc_cli.media.image import Picture, from_tensor, tile_grid, write_picture
from aigc_cli.metrics.diversity import Distance, mean_distance
from aigc_cli.metrics.fid import fid
from aigc_cli.metrics.inception_score import inception_score
from aigc_cli.metrics.kid import kid
from aigc_cli.metrics.neighbours import Copies, copies
from aigc_cli.metrics.prdc import PRDC, prdc
from aigc_cli.metrics.sets import SetMetric
from aigc_cli.metrics.table import METRICS
from aigc_cli.run.extract import Extractor, Features, Pictures, extract, processes

DIVERSE = 200  # pictures whose pairs are compared
LPIPS_SIDE = 64  # smaller pictures are enlarged to it for LPIPS
SHEET = 64  # pictures on a sheet
SUSPECTS, NEIGHBOURS = 8, 5  # rows and neighbours of the picture of copies


@dataclass(frozen=True)
class Sets:
    """What is compared with what. `train` is where copies may come from.

    `other` are further real pictures, whose value against `reference` is the floor; `inputs` are
    what was translated; `held_out` real pictures that are not in `train`.
    """

    generated: Pictures
    reference: Pictures
    train: Pictures | None = None
    other: Pictures | None = None
    held_out: Pictures | None = None
    inputs: Pictures | None = None


def compare(
    metrics: Sequence[SetMetric],
    sets: Sets,
    extractor: Extractor,
    *,
    classes: tuple[str, ...] | None = None,
    batch_size: int = 64,
    save: Path | None = None,
    seen: Callable[[int], None] = lambda count: None,
) -> dict[str, Any] | None:
    """Values with baselines, protocol and notes; None on all processes but the first.

    classes: names of the class numbers of generated pictures.

    Raises:
        InputError: a metric does not fit the extractor or the sets; before anything is made.
    """
    check_sets(metrics, sets, extractor, classes)
    names = {metric.name for metric in metrics}

    with processes() as world:

        def features(pictures: Pictures | None, needed: bool = True) -> Features | None:
            if pictures is None or not needed:
                return None
            return extract(extractor, pictures, batch_size=batch_size, seen=seen)

        compares = any(metric.reference for metric in metrics)
        found = {
            "": features(sets.generated),
            "real": features(sets.other, compares),
            "identity": features(sets.inputs, compares),
        }
        real = features(sets.reference)
        copied = "copies" in names
        train = features(sets.train, copied)
        held_out = features(sets.held_out, copied)
        if world.rank:
            return None

    assert real is not None
    sides = {
        column: Side(fake, real, train, pictures, extractor, classes)
        for (column, fake), pictures in zip(
            found.items(), (sets.generated, sets.other, sets.inputs), strict=True
        )
        if fake is not None and pictures is not None
    }
    own = Side(real, real, train, sets.reference, extractor, classes)
    fresh = None if held_out is None else Side(held_out, real, train, None, extractor, classes)
    rows = {}
    for metric in metrics:
        row = {**sides[""].value(metric.name), "n": len(sets.generated), "unit": metric.unit}
        row |= {"higher_is_better": metric.higher_is_better, "protocol": metric.protocol}
        if metric.name == "copies":
            floors = {"real": fresh}
        elif metric.reference:
            floors = {name: side for name, side in sides.items() if name}
        else:
            floors = {"real": own}
        for name, side in floors.items():
            if side is not None and side.fits(metric):
                row[name] = side.value(metric.name)["value"]
        rows[metric.name] = row
    if save is not None:
        _save(save, sides[""], sets)
    return {
        "metrics": rows,
        "protocol": _protocol(sets, extractor, copied=copied),
        "notes": _notes(metrics, sets, sides[""]),
    }


def check_sets(
    metrics: Sequence[SetMetric],
    sets: Sets,
    extractor: Extractor,
    classes: tuple[str, ...] | None,
) -> None:
    """See that every metric can be had.

    Raises:
        InputError: too few pictures, an extractor without classes or with other ones.
    """
    for metric in metrics:
        for side, pictures in (("generated", sets.generated), ("reference", sets.reference)):
            if len(pictures) < metric.smallest and (metric.reference or side == "generated"):
                raise InputError(
                    f"{metric.name} needs {metric.smallest} or more {side} pictures, not "
                    f"{len(pictures)}",
                    hint="raise --count" if side == "generated" else "name another --reference",
                )
        if metric.classes and "logits" not in extractor.layers:
            raise InputError(
                f"{metric.name} needs an extractor with classes, which {extractor.stamp} is not",
                hint="take --extractor inception, or the run of a classifier",
            )
        if metric.name == "copies" and (sets.train is None or len(sets.train) < 2):
            raise InputError("copies: there are no training pictures to compare with")
        if metric.name == "lpips_diversity":
            METRICS["lpips"].prepare()
        if metric.name == "label_accuracy":
            _check_classes(sets, extractor, classes)


def _check_classes(sets: Sets, extractor: Extractor, classes: tuple[str, ...] | None) -> None:
    if classes is None or sets.generated.labels([0]) is None:
        raise InputError("label_accuracy needs a model that is told which class to make")
    known = extractor.labels
    if known is None:
        raise InputError(
            f"label_accuracy: {extractor.stamp} does not know the classes of the model",
            hint="take the run of a classifier trained on the same classes as --extractor",
        )
    if unknown := [name for name in classes if name not in known]:
        raise InputError(
            f"label_accuracy: the classifier does not know the class '{unknown[0]}'",
            hint=f"it knows: {', '.join(known)}",
        )


@dataclass(frozen=True)
class Side:
    """One set of pictures in the place of the generated ones."""

    fake: Features
    real: Features
    train: Features | None
    pictures: Pictures | None
    extractor: Extractor
    classes: tuple[str, ...] | None

    def value(self, name: str) -> dict[str, float]:
        """`value`, and `std` over subsets or splits where there are any."""
        made = VALUES[name](self)
        found = made if isinstance(made, tuple) else (made,)
        return {key: round(float(x), 6) for key, x in zip(("value", "std"), found, strict=False)}

    def fits(self, metric: SetMetric) -> bool:
        """Whether there are enough pictures, and classes where it needs them."""
        labelled = metric.name != "label_accuracy" or self.asked is not None
        return labelled and min(len(self.fake), len(self.real)) >= metric.smallest

    @cached_property
    def prdc(self) -> PRDC:
        return prdc(self.real.pooled, self.fake.pooled)

    @cached_property
    def copies(self) -> Copies:
        assert self.train is not None
        return copies(self.train.pooled, self.fake.pooled, k=NEIGHBOURS)

    @cached_property
    def asked(self) -> Tensor | None:
        assert self.pictures is not None
        return self.pictures.labels(range(len(self.pictures)))

    @property
    def label_accuracy(self) -> float:
        known, classes = self.extractor.labels or (), self.classes or ()
        number = torch.tensor([known.index(name) for name in classes])
        return float((_logits(self.fake).argmax(1) == number[self.asked]).double().mean())

    def diversity(self, distance: Distance, least: int = 1) -> float:
        assert self.pictures is not None
        images = self.pictures.read(range(min(DIVERSE, len(self.pictures))))
        if len({image.shape for image in images}) > 1:
            raise DataError("diversity needs pictures of one size")
        batch = torch.stack(list(images))
        if min(batch.shape[-2:]) < least:
            batch = F.interpolate(batch, (least, least), mode="bilinear")
        return mean_distance(batch, distance)


def _lpips(a: Tensor, b: Tensor) -> Tensor:
    network: Any = METRICS["lpips"].prepare()
    with torch.inference_mode():
        made: Tensor = network(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1))
    return made


def _logits(features: Features) -> Tensor:
    assert features.logits is not None
    return features.logits


VALUES: dict[str, Callable[[Side], float | tuple[float, float]]] = {
    "fid": lambda side: fid(side.real.pooled, side.fake.pooled),
    "kid": lambda side: kid(side.real.pooled, side.fake.pooled),
    "is": lambda side: inception_score(_logits(side.fake)),
    "precision": lambda side: side.prdc.precision,
    "recall": lambda side: side.prdc.recall,
    "density": lambda side: side.prdc.density,
    "coverage": lambda side: side.prdc.coverage,
    "copies": lambda side: side.copies.share,
    "label_accuracy": lambda side: side.label_accuracy,
    "lpips_diversity": lambda side: side.diversity(_lpips, LPIPS_SIDE),
    "feature_diversity": lambda side: side.diversity(side.extractor.distance),
}


def _protocol(sets: Sets, extractor: Extractor, *, copied: bool) -> dict[str, Any]:
    found = {
        "extractor": extractor.stamp,
        "layer": extractor.layers[0],
        "resize": extractor.resize,
        "generated": f"{len(sets.generated)}: {sets.generated.text}",
        "reference": f"{len(sets.reference)}: {sets.reference.text}",
        "levels": "8 bit",
    }
    if sets.other is not None:
        found["real"] = f"{len(sets.other)}: {sets.other.text}"
    if sets.train is not None and copied:
        found["train"] = f"{len(sets.train)}: {sets.train.text}"
    return found


def _notes(metrics: Sequence[SetMetric], sets: Sets, side: Side) -> list[str]:
    D = side.fake.pooled.shape[1]
    few = min(len(sets.generated), len(sets.reference))
    if few < D and any(metric.name == "fid" for metric in metrics):
        return [
            f"fid: {few} pictures are fewer than the {D} features, so the value is too large; "
            "kid is not biased by the count"
        ]
    return []


def _save(folder: Path, side: Side, sets: Sets) -> None:
    """Sheets of both sets, and the most suspicious pictures beside their nearest training ones."""
    for name, pictures in (("generated", sets.generated), ("reference", sets.reference)):
        images = pictures.read(range(min(SHEET, len(pictures))))
        write_picture(folder / f"{name}.png", tile_grid([_large(x) for x in images], 8))
    if side.train is None or sets.train is None:
        return
    found = side.copies
    cells, captions = [], []
    for number in found.distance[:, 0].argsort()[:SUSPECTS].tolist():
        cells += [_large(x) for x in sets.generated.read([number])]
        captions.append(f"number {number}")
        near = zip(found.index[number].tolist(), found.distance[number].tolist(), strict=True)
        for index, distance in near:
            cells += [_large(x) for x in sets.train.read([index])]
            captions.append(f"{distance:.3g}" + (" !" if distance < found.threshold else ""))
    columns = 1 + found.index.shape[1]
    write_picture(folder / "neighbours.png", tile_grid(cells, columns, labels=captions))


def _large(image: Tensor, side: int = 96) -> Picture:
    """A picture to look at: small ones enlarged by whole pixels."""
    factor = max(1, side // max(image.shape[-2:]))
    return Picture(from_tensor(image).repeat(factor, 0).repeat(factor, 1))
