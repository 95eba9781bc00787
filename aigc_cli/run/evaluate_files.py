"""`aigc evaluate --generated --reference`: files beside what they should be, no model needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import InputError
from aigc_cli.metrics._metric import Metric
from aigc_cli.metrics._things import Corpus, Sets
from aigc_cli.metrics.find import belongs, open_metrics
from aigc_cli.metrics.report import corpus_report
from aigc_cli.modalities._judging import Judging, find_judging, judging_of_files
from aigc_cli.recipe.options import read_options
from aigc_cli.run.asked import Asked, Job, Report, counter, with_required
from aigc_cli.run.pairs import compare_pairs
from aigc_cli.run.sets import check_sets, compare_sets


def evaluate_files(asked: Asked) -> Job:
    """Check what was asked of files; the job compares them.

    Raises:
        DataError: files do not pair up, or cannot be used; says which and how many. InputError: an
            option or metric is not for this kind of file.
    """
    begun = time.monotonic()
    generated, references = asked.generated, [Path(text) for text in asked.references]
    assert generated is not None

    # of which modality the files are, and what of KEY=VALUE is about metrics
    named = asked.names
    known = registry.metrics()
    judging = find_judging(known[named[0]].modality) if named else judging_of_files(generated)
    names = with_required(asked.metrics or judging.usual, asked.require)
    if not names:
        raise InputError("no metric is asked for", hint="name one with --metric; list shows all")
    if others := [name for name in names if known[name].modality != judging.name]:
        raise InputError(
            f"{others[0]} is of modality {known[others[0]].modality}, and {names[0]} of "
            f"{judging.name}",
            hint="measure them in two calls",
        )
    own = [text for text in asked.options if belongs(text.partition("=")[0], names)]
    others = [text for text in asked.options if text not in own]
    metrics = open_metrics(names, own)
    reading = read_options(judging.reads, others)
    loose = [metric for metric in metrics if metric.of != "set"]
    sets = [metric for metric in metrics if metric.of == "set"]

    # what they need, before anything is compared
    if not references and (needy := [metric.name for metric in metrics if metric.reference]):
        raise InputError(
            f"{needy[0]} compares with what should be there", hint="add --reference PATH"
        )
    if asked.save is not None and not sets:
        raise InputError(
            "--save without a model shows sets", hint="add a metric of sets, such as fid"
        )
    prepare(metrics, asked)
    corpus = both = None
    if loose:
        corpus = judging.open_corpus(generated, references, asked.baseline, reading, asked.limit)
    if sets:
        both, skipped = _sets(judging, generated, references, reading, asked.limit)
        check_sets(sets, both)
    if asked.save is not None:
        from aigc_cli.modalities._output import prepare_folder

        prepare_folder(asked.save, overwrite=asked.overwrite)

    def job() -> Report | None:
        found: dict[str, Any] = {"metrics": {}, "items": []}
        if corpus is not None:
            found = compare_corpus(corpus, loose, asked.seen if sets else lambda name: None)
        if both is not None:
            more = compare_sets(
                sets, both, batch_size=asked.batch_size, save=asked.save, show=judging.show_sets,
                seen=counter(asked.seen, "things"),
            )  # fmt: skip
            if more is None:
                return None
            found = {**found, **more, "metrics": {**found["metrics"], **more["metrics"]}}
            if skipped:
                found["skipped"] = skipped
        return {
            "ok": True,
            "generated": str(generated),
            "reference": list(asked.references),
            **({} if asked.baseline is None else {"baseline": str(asked.baseline)}),
            "require": list(asked.require),
            **found,
            "seconds": round(time.monotonic() - begun, 1),
        }

    return job


def compare_corpus(
    corpus: Corpus, metrics: Sequence[Metric], seen: Callable[[str], None]
) -> dict[str, Any]:
    """Scores of things with what they should be: one by one where that is all that is asked for,
    or else together, with intervals.
    """
    together = corpus.baseline is not None or any(metric.of == "corpus" for metric in metrics)
    if not together:
        found = compare_pairs(corpus.pairs(), metrics, seen=seen)
        return {**corpus.facts, **found}
    count = range(len(corpus.names))
    other = None if corpus.baseline is None else [corpus.baseline(number) for number in count]
    report = corpus_report(metrics, corpus.preds, corpus.references, baseline=other)
    return {**languages(metrics), **corpus.facts, **report}


def languages(metrics: Sequence[Metric]) -> dict[str, str]:
    """{"lang": ...} of metrics that have one."""
    found = [metric.options.lang for metric in metrics if hasattr(metric.options, "lang")]
    return {"lang": ", ".join(dict.fromkeys(found))} if found else {}


def prepare(metrics: Sequence[Metric], asked: Asked, bases: Sequence[Path] = ()) -> None:
    """Open the networks that metrics need.

    Raises:
        MissingError, InputError: there is no such network.
    """
    device = "cpu"
    for metric in metrics:
        name = getattr(metric.options, "extractor", None)
        if name is not None:
            from aigc_cli.run.extract import open_extractor

            others = [m.extractor for m in metrics if m.extractor and m.options.extractor == name]
            own = others[0] if others else metric.own_extractor(name)
            metric.extractor = own or open_extractor(name, asked.device, bases)
        if hasattr(metric.options, "model"):
            from aigc_cli.run.devices import choose_device

            device = str(choose_device(asked.device))
        metric.prepare(device)


def _sets(
    judging: Judging,
    generated: Path,
    references: Sequence[Path],
    reading: Any,
    limit: int | None,
) -> tuple[Sets, list[str]]:
    made, skipped = judging.open_set(generated, "--generated", reading, limit)
    if not references:
        return Sets(made), skipped
    if len(references) > 1:
        raise InputError("a set is compared with one other", hint="give --reference once")
    real, more = judging.open_set(references[0], "--reference", reading, limit)
    return Sets(made, real, train=real), [*skipped, *more]
