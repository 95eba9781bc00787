"""`aigc evaluate --generated --reference`: files beside what they should be, no model needed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aigc_cli import registry
from aigc_cli.errors import InputError
from aigc_cli.metrics._metric import Metric
from aigc_cli.metrics._things import Corpus
from aigc_cli.metrics.find import belongs, open_metrics
from aigc_cli.metrics.report import corpus_report
from aigc_cli.recipe.options import read_options
from aigc_cli.run.asked import Asked, Job, Report, counter, with_required
from aigc_cli.run.pairs import compare_pairs


def evaluate_files(asked: Asked) -> Job:
    """Check what was asked of files; the job compares them.

    Raises:
        DataError: files do not pair up, or cannot be used; says which and how many. InputError: an
            option or metric is not for this kind of file.
    """
    begun = time.monotonic()
    generated = asked.generated
    assert generated is not None
    names = asked.names
    room = _room(generated, names)
    names = with_required(asked.metrics or room.USUAL, asked.require)
    _all_of(names, registry.metrics()[names[0]].modality, generated)

    # which of KEY=VALUE are about metrics, and which about how files are read
    own = [text for text in asked.options if belongs(text.partition("=")[0], names)]
    others = [text for text in asked.options if text not in own]
    metrics = open_metrics(names, own)
    reading = read_options(room.Reading_, others)
    loose = [metric for metric in metrics if metric.of != "set"]
    sets = [metric for metric in metrics if metric.of == "set"]
    needy = [metric.name for metric in metrics if metric.reference]
    if needy and not asked.references:
        raise InputError(
            f"{needy[0]} compares with what should be there", hint="add --reference PATH"
        )
    if asked.save is not None and not sets:
        raise InputError(
            "--save without a model shows sets", hint="add a metric of sets, such as fid"
        )
    references = [Path(text) for text in asked.references]
    prepare(metrics, asked)
    corpus = None
    if loose:
        corpus = room.open_corpus(generated, references, asked.baseline, reading, asked.limit)
    both = None
    if sets:
        both, skipped = _sets(room, generated, references, reading, asked.limit)
        from aigc_cli.run.sets import check_sets

        check_sets(sets, both)
    if asked.save is not None:
        from aigc_cli.modalities._output import prepare_folder

        prepare_folder(asked.save, overwrite=asked.overwrite)

    def job() -> Report | None:
        report: Report = {
            "ok": True,
            "generated": str(generated),
            "require": list(asked.require),
            "reference": list(asked.references),
        }
        if asked.baseline is not None:
            report["baseline"] = str(asked.baseline)
        found: dict[str, Any] = {"metrics": {}, "items": []}
        if corpus is not None:
            found = compare_corpus(corpus, loose)
        if both is not None:
            from aigc_cli.run.sets import compare_sets

            more = compare_sets(
                sets, both, batch_size=asked.batch_size, save=asked.save, show=room.show_sets,
                seen=counter(asked.seen, "things"),
            )  # fmt: skip
            if more is None:
                return None
            found = {**found, **more, "metrics": {**found["metrics"], **more["metrics"]}}
            if skipped:
                found["skipped"] = skipped
        return {**report, **found, "seconds": round(time.monotonic() - begun, 1)}

    return job


def compare_corpus(corpus: Corpus, metrics: Sequence[Metric]) -> dict[str, Any]:
    """Scores of things with what they should be: one by one where that is all that is asked for,
    or else together, with intervals.
    """
    together = corpus.baseline is not None or any(metric.of == "corpus" for metric in metrics)
    if not together:
        return {**corpus.facts, **compare_pairs(corpus.pairs(), metrics)}
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
            metric.extractor = others[0] if others else open_extractor(name, asked.device, bases)
        if hasattr(metric.options, "model"):
            from aigc_cli.run.devices import choose_device

            device = str(choose_device(asked.device))
        metric.prepare(device)


def _room(generated: Path, names: Sequence[str]) -> Any:
    """What knows these files: that of the metrics, or else of the endings."""
    from aigc_cli.run import evaluate_texts

    named = generated.with_suffix("") if generated.suffix == ".gz" else generated
    texts = (
        registry.metrics()[names[0]].modality == "text"
        if names
        else (named.suffix in evaluate_texts.ENDINGS or (generated / "samples.jsonl").is_file())
    )
    if texts:
        return evaluate_texts
    from aigc_cli.run import evaluate_images

    return evaluate_images


def _all_of(names: Sequence[str], modality: str, generated: Path) -> None:
    known = registry.metrics()
    if others := [name for name in names if known[name].modality != modality]:
        raise InputError(
            f"{others[0]} is of modality {known[others[0]].modality}, and {names[0]} of {modality}",
            hint="measure them in two calls",
        )


def _sets(
    room: Any, generated: Path, references: Sequence[Path], reading: Any, limit: int | None
) -> tuple[Any, list[str]]:
    from aigc_cli.run.sets import Sets

    made, skipped = room.open_set(generated, "--generated", reading, limit)
    if not references:
        return Sets(made), skipped
    if len(references) > 1:
        raise InputError("a set is compared with one other", hint="give --reference once")
    real, more = room.open_set(references[0], "--reference", reading, limit)
    return Sets(made, real, train=real), [*skipped, *more]
