"""What was asked of an evaluation: what is measured, of what, and which conditions shall hold."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import InputError, RequirementError, did_you_mean
from aigc_cli.metrics.find import LS, belongs, find_metric, members, open_metrics, resolve
from aigc_cli.metrics.requirement import check, parse_requirement
from aigc_cli.run.inputs import check_source, require_paths

NOTHING = "nothing to evaluate"
TOGETHER = "--generated and --reference are for files, RUN and --data for a model"
HOW = "aigc evaluate RUN, or aigc evaluate --generated PATH --reference PATH"

FACTS = ("of", "higher_is_better", "unit", "protocol")

Report = dict[str, Any]
Job = Callable[[], Report | None]
"""The work after every check; None on processes that do not report."""


@dataclass(frozen=True)
class Asked:
    """What a user asks of `aigc evaluate`; `options` are KEY=VALUE."""

    metrics: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    data: Path | None = None
    generated: Path | None = None
    references: tuple[str, ...] = ()
    baseline: Path | None = None
    count: int | None = None
    seed: int = 0
    batch_size: int = 64
    limit: int | None = None
    save: Path | None = None
    overwrite: bool = False
    device: str = "auto"
    ema: bool = True
    seen: Callable[[str], None] = lambda name: None

    @property
    def names(self) -> list[str]:
        """Metrics that are asked for or that conditions are about; groups as their members.

        Raises:
            InputError: unknown names, or a condition on a group.
        """
        return with_required(self.metrics, self.require)

    def sorted_options(self) -> dict[str, list[str]]:
        """KEY=VALUE by what it is about: a metric asked for, how data is read, or the family."""
        wanted = (*self.metrics, *(parse_requirement(text).name for text in self.require))
        known = resolve(name for name in wanted if name in registry.metrics())
        about: dict[str, list[str]] = {"metric": [], "reading": [], "family": []}
        for text in self.options:
            key = text.partition("=")[0]
            reads = key in ("suffix", "on_error", "max_pixels")
            about["reading" if reads else "metric" if belongs(key, known) else "family"].append(
                text
            )
        return about


def open_job(source: str | None, asked: Asked) -> Job:
    """Check what was asked of a run, or of files where `asked.generated` names some.

    Raises:
        InputError: neither or both were given; otherwise as `evaluate_model`, `evaluate_files`.
    """
    _require_there(asked)
    if asked.generated is not None:
        from aigc_cli.run.evaluate_files import evaluate_files

        if source is not None and "=" in source:  # what looked like the run is the first option
            asked = replace(asked, options=(source, *asked.options))
            source = None
        if source is not None or asked.data is not None:
            raise InputError(TOGETHER, hint=HOW)
        return evaluate_files(asked)
    if source is None:
        raise InputError(TOGETHER if asked.references else NOTHING, hint=HOW)
    _check_names(source, asked)
    from aigc_cli.run.evaluate import evaluate_model

    return evaluate_model(source, asked)


def _check_names(source: str, asked: Asked) -> None:
    """The run, names of metrics and all options, before torch is imported.

    Raises:
        InputError: there is no such run or metric. RecipeError: wrong options.
    """
    own = measured_names()
    with_required(asked.metrics, asked.require, own)
    about = asked.sorted_options()
    check_source(source, about["family"])
    names = [name for name in asked.metrics if name in registry.metrics()]
    if about["metric"] and (names := with_required(names, asked.require, own)):
        open_metrics([name for name in names if name in registry.metrics()], about["metric"])


def measured_names() -> list[str]:
    """What families may measure themselves: every name with a direction in the text of a file of
    the package's, and every word in quotes in one of the user's.
    """
    found: set[str] = set()
    for root in (registry.PACKAGE, *registry.user_folders()):
        pattern = r'"(\w+)": "(?:max|min)"' if root == registry.PACKAGE else r"""["'](\w+)["']"""
        for file in (root / "models").rglob("*.py"):
            found |= {*re.findall(pattern, file.read_text(encoding="utf-8", errors="replace"))}
    return sorted(found)


def _require_there(asked: Asked) -> None:
    """See that what is named exists, before torch is imported.

    Raises:
        DataError: a file, a folder or a set of data is absent.
    """
    require_paths("--data", asked.data)
    require_paths("--generated", asked.generated)
    require_paths("--baseline", asked.baseline)
    if asked.generated is not None:
        require_paths("--reference", *asked.references)


def check_requirements(report: dict[str, Any], texts: Sequence[str]) -> None:
    """Compare the report with conditions such as "psnr_y>=36.0"; adds what failed to the report.

    Raises:
        InputError: a condition names a metric that was not measured.
        RequirementError: a condition does not hold; exit code 4.
    """
    requirements = [parse_requirement(text) for text in texts]
    values = {name: _number(score["value"]) for name, score in report["metrics"].items()}
    try:
        check(requirements, values)
    except RequirementError:
        report["ok"] = False
        report["failed"] = [str(r) for r in requirements if not r.holds(values[r.name])]
        raise


def _number(value: Any) -> float:
    """Of a report, where None is not defined."""
    return float("nan") if value is None else float(value)


def with_required(
    metrics: Sequence[str], require: Sequence[str], own: Sequence[str] = ()
) -> list[str]:
    """Names to measure: those asked for, and those that conditions are about; groups as their
    members. `own` are further names that are known, such as a family's.

    Raises:
        InputError: a name is unknown, or a condition is on a group.
    """
    wanted = [parse_requirement(text).name for text in require]
    for text, name in zip(require, wanted, strict=True):
        if several := members(name):
            raise InputError(
                f"--require {text}: which one is meant?", hint=f"choose from: {', '.join(several)}"
            )
    names: dict[str, None] = {}
    for name in (*metrics, *wanted):
        if name in own:
            names[name] = None
        elif name not in registry.metrics():
            hint = did_you_mean(name, [*own, *registry.metrics()], ls=LS)
            raise InputError(f"unknown metric {name!r}", hint=hint)
        else:
            names |= dict.fromkeys(resolve([name]))
    return list(names)


def explain_metrics() -> list[dict[str, Any]]:
    """What `--metric list` shows, read from the files without importing them."""
    rows = []
    for name, file in registry.metrics().items():
        facts = file.facts
        if not file.group:
            if not {"of", "higher_is_better"} <= facts.keys():  # no literals: it has to be imported
                metric = find_metric(name)
                facts = {key: getattr(metric, key) for key in FACTS}
            rows.append(
                {
                    "modality": file.modality,
                    "metric": name,
                    "of": facts["of"],
                    "better": "higher" if facts.get("higher_is_better") else "lower",
                    "unit": facts.get("unit", ""),
                    "protocol": facts.get("protocol", "").format_map(_AsLetters()),
                }
            )
    return sorted(rows, key=lambda row: (row["modality"], row["of"], row["metric"]))


class _AsLetters(dict[str, str]):
    """`border {border}` -> `border N`."""

    def __missing__(self, key: str) -> str:
        return "N"


def counter(seen: Callable[[str], None], what: str) -> Callable[[int], None]:
    """Says now and then how many were looked at."""
    total, told = 0, time.monotonic()

    def count(more: int) -> None:
        nonlocal total, told
        total += more
        if time.monotonic() - told > 10:
            told = time.monotonic()
            seen(f"{total} {what}")

    return count
