"""Sets of things compared as a whole, such as FID, with the protocol beside the value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from aigc_cli.errors import InputError
from aigc_cli.metrics._metric import Metric, SetMetric
from aigc_cli.metrics._things import Features, Sets, Side, Things
from aigc_cli.run.pairs import plain

Show = Callable[[Path, Sets, Side], None]
"""Draws sheets of the sets into a folder."""


def compare_sets(
    metrics: Sequence[Metric],
    sets: Sets,
    *,
    batch_size: int = 64,
    save: Path | None = None,
    show: Show = lambda folder, sets, side: None,
    seen: Callable[[int], None] = lambda count: None,
) -> dict[str, Any] | None:
    """Values with baselines, protocol and notes; None on all processes but the first.

    Raises:
        InputError: a metric does not fit the sets or its extractor; before anything is made.
    """
    from aigc_cli.run.extract import processes

    check_sets(metrics, sets)
    groups: dict[str, list[SetMetric]] = {}
    for metric in metrics:
        assert isinstance(metric, SetMetric)
        groups.setdefault(metric.extractor.stamp if metric.extractor else "", []).append(metric)
    rows: dict[str, Any] = {}
    protocols, notes = [], []
    shown: Side | None = None
    with processes() as world:
        for several in groups.values():
            sides = _sides(several, sets, batch_size=batch_size, seen=seen)
            if world.rank:
                continue
            rows |= {metric.name: _row(metric, sets, sides) for metric in several}
            protocols.append(_protocol(sets, several))
            notes += [note for metric in several for note in metric.notes(sides[""])]
            shown = sides[""] if shown is None or sides[""].fake is not None else shown
        if world.rank:
            return None
    if save is not None and shown is not None:
        show(save, sets, shown)
    rows = {metric.name: rows[metric.name] for metric in metrics}
    return {"metrics": rows, "protocol": _joined(protocols), "notes": notes}


def check_sets(metrics: Sequence[Metric], sets: Sets) -> None:
    """See that every metric can be had.

    Raises:
        InputError: too few things, an extractor without classes or with other ones.
    """
    for metric in metrics:
        assert isinstance(metric, SetMetric)
        sides = {"generated": sets.generated, "reference": sets.reference}
        for name, things in sides.items():
            if name == "reference" and not metric.reference:
                continue
            if things is None:
                raise InputError(
                    f"{metric.name} compares with what is real", hint="add --reference"
                )
            if len(things) < metric.smallest:
                raise InputError(
                    f"{metric.name} needs {metric.smallest} or more {name} things, not "
                    f"{len(things)}: {things.text}",
                    hint="raise --count"
                    if name == "generated" and sets.made
                    else f"give more of them with --{name}",
                )
        extractor = metric.extractor
        if metric.classes and (extractor is None or "logits" not in extractor.layers):
            stamp = extractor.stamp if extractor else "none"
            raise InputError(
                f"{metric.name} needs an extractor with classes, which {stamp} is not",
                hint="take extractor=inception, or the run of a classifier",
            )
        side = sets.side(sets.generated, extractor)
        assert side is not None
        metric.check(side)


def _sides(
    metrics: Sequence[SetMetric],
    sets: Sets,
    *,
    batch_size: int,
    seen: Callable[[int], None],
) -> dict[str, Side]:
    """What is compared, by column: "" is the value, "real" and "identity" its floors, "own" the
    reference by itself and "fresh" real things that were held out.
    """
    from aigc_cli.run.extract import extract

    extractor = metrics[0].extractor
    compares = any(metric.reference for metric in metrics)
    learned = any(metric.train for metric in metrics)

    def features(things: Things | None, needed: bool = True) -> Features | None:
        if things is None or extractor is None or not needed:
            return None
        return extract(extractor, things, batch_size=batch_size, seen=seen)

    columns = {
        "": (sets.generated, True),
        "real": (sets.other, compares),
        "identity": (sets.inputs, compares),
        "own": (sets.reference, True),
        "fresh": (sets.held_out, learned),
    }
    fakes = {name: features(things, needed) for name, (things, needed) in columns.items()}
    train = features(sets.train, learned)
    found = {}
    for name, (things, needed) in columns.items():
        side = sets.side(things, extractor) if needed else None
        if side is not None:
            found[name] = replace(side, fake=fakes[name], real=fakes["own"], train=train)
    return found


def _row(metric: SetMetric, sets: Sets, sides: dict[str, Side]) -> dict[str, Any]:
    row = {
        **_value(metric, sides[""]),
        "n": len(sets.generated),
        "unit": metric.unit,
        "higher_is_better": metric.higher_is_better,
        "protocol": metric.describe(),
    }
    if metric.train:
        floors = {"real": "fresh"}
    elif metric.reference:
        floors = {"real": "real", "identity": "identity"}
    else:
        floors = {"real": "own"}
    for column, name in floors.items():
        if name in sides and _fits(metric, sides[name]):
            row[column] = _value(metric, sides[name])["value"]
    return row


def _value(metric: SetMetric, side: Side) -> dict[str, Any]:
    """`value`, and `std` over subsets or splits where there are any."""
    made = metric.compute(side)
    numbers = made if isinstance(made, tuple) else (made,)
    return {key: plain(float(x)) for key, x in zip(("value", "std"), numbers, strict=False)}


def _fits(metric: SetMetric, side: Side) -> bool:
    """Whether a floor can be had: enough things, and classes where it needs them."""
    try:
        metric.check(side)
    except InputError:
        return False
    sizes = [len(side.things)]
    if metric.reference and side.real_things is not None:
        sizes.append(len(side.real_things))
    return min(sizes) >= metric.smallest


def _protocol(sets: Sets, metrics: Sequence[SetMetric]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    extractor: Any = metrics[0].extractor
    if extractor is not None:
        found |= {
            "extractor": extractor.stamp,
            "layer": extractor.layers[0],
            "resize": extractor.resize,
        }
    named = {"generated": sets.generated, "reference": sets.reference, "real": sets.other}
    if any(metric.train for metric in metrics):
        named["train"] = sets.train
    for name, things in named.items():
        if things is not None:
            found[name] = f"{len(things)}: {things.text}"
    levels = extractor.levels if extractor is not None else ""
    return {**found, **({"levels": levels} if levels else {})}


def _joined(protocols: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One protocol of several, where the metrics have different extractors."""
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    return {
        key: "; ".join(dict.fromkeys(str(p[key]) for p in protocols if key in p)) for key in keys
    }
