"""What a model writes, compared with what it should be and with another system's."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aigc_cli.errors import DataError, InputError
from aigc_cli.metrics._metric import Metric
from aigc_cli.metrics.report import corpus_report
from aigc_cli.run.evaluate_texts import read_texts

if TYPE_CHECKING:
    from aigc_cli.run.trained import Trained


def languages(metrics: Sequence[Metric]) -> dict[str, str]:
    """{"lang": ...} of metrics that have one."""
    found = [metric.options.lang for metric in metrics if hasattr(metric.options, "lang")]
    return {"lang": ", ".join(dict.fromkeys(found))} if found else {}


def open_answers(
    trained: Trained,
    rows: Any,
    metrics: Sequence[Metric],
    *,
    baseline: Path | None,
    limit: int | None,
    seed: int,
    batch_size: int,
    save: Path | None,
    seen: Callable[[int], None],
) -> Callable[[], dict[str, Any]]:
    """Check what is asked of a model that writes texts; the job scores its answers to validation
    items, `rows.texts`. `save` gets answers.jsonl, which may be the baseline of another model.

    Raises:
        DataError: a file cannot be read, or does not pair. InputError: no references.
    """
    from aigc_cli.modalities._modality import Task
    from aigc_cli.modalities.text import Prompts, Unread
    from aigc_cli.models._text import TextModule
    from aigc_cli.run.folder import write_text
    from aigc_cli.run.sample import answers
    from aigc_cli.sampling.decoding import Decoding

    items = [rows.texts(number) for number in range(min(len(rows), limit or len(rows)))]
    for metric in metrics:
        if metric.reference and not all(item["references"] for item in items):
            raise InputError(f"{metric.name} compares with references, and the data has none")
    other = None if baseline is None else read_texts(baseline)
    if other is not None and len(other) != len(items):
        raise DataError(f"{len(items)} items and {len(other)} texts of {baseline} do not pair")

    def work() -> dict[str, Any]:
        prompts = [item.get("messages") or item["prompt"] for item in items]
        hyps, unread = [], 0
        task = Task(trained.model, trained.recipe, seed=seed)
        for _, _, (answer,) in answers(task, Prompts(prompts), batch_size):
            is_unread = isinstance(answer, Unread)  # such an answer is blank, and scored so
            hyps.append("" if is_unread else answer.text)
            unread += is_unread
            seen(1)
        if save is not None:
            lines = [
                json.dumps({"prompt": item["prompt"], "text": text, "texts": item["references"]},
                           ensure_ascii=False)
                for item, text in zip(items, hyps, strict=True)
            ]  # fmt: skip
            write_text(save / "answers.jsonl", "\n".join(lines) + "\n")
        refs = [item["references"] for item in items]
        beside = other
        if beside is None:
            asked = [item["prompt"] for item in items]
            model, given = trained.model, trained.recipe.sample
            assert isinstance(model, TextModule)
            assert isinstance(given, Decoding)
            beside = model.baseline_texts(asked, given)
        facts = {**languages(metrics), **({"unread": unread} if unread else {})}
        return {**facts, **corpus_report(metrics, hyps, refs, baseline=beside)}

    return work
