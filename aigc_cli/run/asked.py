"""What was asked of an evaluation: metrics, conditions, and how sets are judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aigc_cli.errors import InputError, RequirementError, did_you_mean
from aigc_cli.metrics.requirement import check, parse_requirement
from aigc_cli.metrics.sets import SET_GROUPS, SET_METRICS, SetMetric
from aigc_cli.metrics.table import GROUPS, METRICS, PairMetric, seen_by
from aigc_cli.metrics.text import TEXT_GROUPS, TEXT_METRICS
from aigc_cli.run.extract import open_extractor

PAIRS = ("psnr", "ssim")  # what is measured of pairs of pictures when nothing is asked for
EXTRACTOR = "inception"
FOR_TEXTS = (
    "--lang, --tokenize, --lowercase, --stem, --rouge-split, --baseline and several --reference "
    "are for texts"
)
HOW_TEXTS = "aigc evaluate --generated FILE --reference FILE --metric bleu"

Report = dict[str, Any]
Job = Callable[[], Report | None]
"""The work after every check; None on processes that do not report."""


@dataclass(frozen=True)
class Judging:
    """How sets of pictures are compared. `reference` is train, val or a source of pictures."""

    extractor: str = EXTRACTOR
    reference: str | None = None
    count: int | None = None
    seed: int = 0
    batch_size: int = 64


def check_requirements(report: dict[str, Any], texts: Sequence[str]) -> None:
    """Compare the report with conditions such as "psnr_y>=36.0"; adds what failed to the report.

    Raises:
        InputError: a condition names a metric that was not measured.
        RequirementError: a condition does not hold; exit code 4.
    """
    requirements = [parse_requirement(text) for text in texts]
    values = {name: float(score["value"]) for name, score in report["metrics"].items()}
    try:
        check(requirements, values)
    except RequirementError:
        report["ok"] = False
        report["failed"] = [str(r) for r in requirements if not r.holds(values[r.name])]
        raise


def with_required(
    metrics: Sequence[str], require: Sequence[str], usual: Sequence[str] = PAIRS
) -> list[str]:
    """Names to measure: those asked for, else the usual ones, and those that conditions are about;
    groups as their members.

    Raises:
        InputError: a condition on a group of metrics.
    """
    groups = GROUPS | SET_GROUPS | TEXT_GROUPS
    for text in require:
        if members := groups.get(parse_requirement(text).name):
            raise InputError(
                f"--require {text}: which one is meant?", hint=f"choose from: {', '.join(members)}"
            )
    names = [*(metrics or usual), *(parse_requirement(text).name for text in require)]
    return list(dict.fromkeys(member for name in names for member in groups.get(name, (name,))))


def split(names: Sequence[str]) -> tuple[list[PairMetric], list[SetMetric], list[str]]:
    """Metrics of pairs, metrics of sets, and names that are neither."""
    pairs = [METRICS[name] for name in names if name in METRICS]
    sets = [SET_METRICS[name] for name in names if name in SET_METRICS]
    return pairs, sets, [n for n in names if n not in METRICS and n not in SET_METRICS]


def explain_metrics() -> list[dict[str, Any]]:
    """What `--metric list` shows."""
    pairs = [(m.name, m.higher_is_better, m.unit, m.describe(0)) for m in METRICS.values()]
    sets = [(m.name, m.higher_is_better, m.unit, m.protocol) for m in SET_METRICS.values()]
    texts = [(m.name, m.higher_is_better, m.unit, m.protocol) for m in TEXT_METRICS.values()]
    return [
        {
            "metric": name,
            "of": "pairs" if name in METRICS else "sets" if name in SET_METRICS else "texts",
            "better": "higher" if higher else "lower",
            "unit": unit,
            "protocol": protocol,
        }
        for name, higher, unit, protocol in [*pairs, *sets, *texts]
    ]


def unknown_metric(name: str, known: Sequence[str]) -> InputError:
    if name in SET_METRICS or name in METRICS or name in TEXT_METRICS:
        return InputError(
            f"{name} is not for this family", hint=f"choose from: {', '.join(sorted(known))}"
        )
    return InputError(f"unknown metric {name!r}", hint=did_you_mean(name, known))


def pairs_only(names: Sequence[str]) -> list[PairMetric]:
    pairs, sets, others = split(names)
    if sets or others:
        raise unknown_metric([*others, *(m.name for m in sets)][0], [*METRICS, *GROUPS])
    return pairs


def prepared(
    pairs: Sequence[PairMetric], judging: Judging, device: str, bases: Sequence[Path] = ()
) -> list[PairMetric]:
    """The metrics with the networks that they need.

    Raises:
        MissingError, InputError: there is no such network.
    """
    if any(metric.name == "perceptual" for metric in pairs):
        extractor = open_extractor(judging.extractor, device, bases)
        pairs = [seen_by(metric, extractor.stamp, extractor.distance) for metric in pairs]
    for metric in pairs:
        metric.prepare()
    return list(pairs)


def model_of(judging: Judging) -> str | None:
    """What BERTScore looks through, if something was named."""
    return None if judging.extractor == EXTRACTOR else judging.extractor


def counter(seen: Callable[[str], None], what: str = "pictures") -> Callable[[int], None]:
    """Says now and then how many were looked at."""
    total, told = 0, time.monotonic()

    def count(more: int) -> None:
        nonlocal total, told
        total += more
        if time.monotonic() - told > 10:
            told = time.monotonic()
            seen(f"{total} {what}")

    return count
