"""`aigc evaluate --generated --reference`: pictures or texts beside what they should be, no model
needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aigc_cli.errors import InputError
from aigc_cli.metrics.sets import SET_GROUPS, SET_METRICS
from aigc_cli.metrics.table import GROUPS, METRICS
from aigc_cli.metrics.text import TEXT_GROUPS, TEXT_METRICS
from aigc_cli.run.asked import (
    FOR_TEXTS,
    HOW_TEXTS,
    Job,
    Judging,
    Report,
    counter,
    model_of,
    prepared,
    split,
    unknown_metric,
    with_required,
)
from aigc_cli.run.distribution import Sets, check_sets, compare
from aigc_cli.run.extract import open_extractor
from aigc_cli.run.pairs import compare_files
from aigc_cli.run.pictures import Files
from aigc_cli.run.sample import open_input, prepare_output
from aigc_cli.run.texts import USUAL, are_texts, compare_text_files

TOGETHER = "--generated and --reference go together, and without a model, --data or --save"
HOW = "aigc evaluate --generated DIR --reference DIR, or aigc evaluate RUN"


def evaluate_files(
    generated: Path,
    references: Sequence[Path],
    *,
    metrics: Sequence[str] = (),
    require: Sequence[str] = (),
    judging: Judging,
    border: int | None = None,
    texts: Mapping[str, Any] | None = None,
    baseline: Path | None = None,
    device: str = "auto",
    limit: int | None = None,
    save: Path | None = None,
    overwrite: bool = False,
    seen: Callable[[str], None] = lambda name: None,
) -> Job:
    """Check what was asked of files, no model needed; the job compares two folders of pictures, or
    texts with one or more references. `texts` are options that only texts have.

    Raises:
        DataError: names do not pair up or sizes differ; says which and how many. InputError: an
            option or metric is not for this kind of file.
    """
    if are_texts(generated, with_required(metrics, require, usual=())):
        if border is not None or save is not None:
            raise InputError("--border and --save are for pictures")
        names = with_required(metrics, require, usual=USUAL)
        return _texts_job(
            generated, references, names, judging, texts or {}, baseline, device, limit
        )
    if texts or baseline or len(references) > 1:
        raise InputError(FOR_TEXTS, hint=HOW_TEXTS)
    if not references:
        raise InputError(TOGETHER, hint=HOW)
    [reference] = references
    begun = time.monotonic()
    pairs, sets, others = split(with_required(metrics, require))
    if others:
        pictures = [*METRICS, *GROUPS, *SET_METRICS, *SET_GROUPS]
        raise unknown_metric(others[0], [*pictures, *TEXT_METRICS, *TEXT_GROUPS])
    if save is not None and not sets:
        raise InputError(
            "--save without a model shows sets of pictures", hint="add --metric fid or copies"
        )
    if sets:
        made, real = (
            Files(open_input(path, option), limit)
            for path, option in ((generated, "--generated"), (reference, "--reference"))
        )
        extractor = open_extractor(judging.extractor, device)
        both = Sets(made, real, train=real)
        check_sets(sets, both, extractor, None)
    pairs = prepared(pairs, judging, device)
    if save is not None:
        prepare_output(save, overwrite=overwrite)

    def job() -> Report | None:
        report: Report = {"ok": True, "generated": str(generated), "reference": str(reference)}
        found: dict[str, Any] = {"metrics": {}, "items": []}
        if pairs:
            found = compare_files(generated, reference, pairs, border=border or 0, limit=limit)
        if sets:
            sizes = judging.batch_size
            more = compare(sets, both, extractor, batch_size=sizes, save=save, seen=counter(seen))
            if more is None:
                return None
            found = {**found, **more, "metrics": {**found["metrics"], **more["metrics"]}}
        return {**report, **found, "seconds": round(time.monotonic() - begun, 1)}

    return job


def _texts_job(
    generated: Path,
    references: Sequence[Path],
    names: Sequence[str],
    judging: Judging,
    options: Mapping[str, Any],
    baseline: Path | None,
    device: str,
    limit: int | None,
) -> Job:
    if others := [name for name in names if name in METRICS or name in SET_METRICS]:
        raise InputError(f"{others[0]} is for pictures and {generated} holds texts")

    def job() -> Report:
        return compare_text_files(
            generated,
            references,
            names,
            baseline=baseline,
            options={**options, "model": model_of(judging)},
            device=device,
            limit=limit,
        )

    return job
