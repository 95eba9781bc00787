"""Reports of `aigc evaluate` as people read them, and the list of metrics."""

from __future__ import annotations

from typing import Any

from aigc_cli.cli._table import records, table

FACTS = ("value", "std", "n", "unit", "higher_is_better", "protocol")
"""Of a score in a report; its other numbers are those of answers without a model."""


def metric_list(rows: list[dict[str, Any]], *, full: bool) -> str:
    """The metrics by modality; on a terminal protocols are cut unless all is asked for."""
    columns = ["metric", "of", "better", "unit", "protocol"]
    named = [{**row, "metric": f"{row['modality']}/{row['metric']}"} for row in rows]
    if full:
        return records(named, columns)
    return table(named, columns, wrap=False, drop=("of", "unit"), grouped=True)


def report_text(report: dict[str, Any]) -> str:
    """A row a metric with what it is compared with, then protocols, classes and notes."""
    scores = report["metrics"]
    baselines = dict.fromkeys(key for score in scores.values() for key in score if key not in FACTS)
    columns = ["metric", "value", *baselines, "unit", "n", "protocol"]
    rows = [
        {"metric": name, **{column: _number(score.get(column)) for column in columns[1:]}}
        for name, score in scores.items()
    ]
    protocol = [f"{name}: {text}" for name, text in report.get("protocol", {}).items()]
    notes = [f"note: {text}" for text in report.get("notes", ())]
    if skipped := report.get("skipped"):
        notes += [f"note: {len(skipped)} left out", *(f"  {text}" for text in skipped[:20])]
    classes = [{k: _number(v) for k, v in row.items()} for row in report.get("classes", ())]
    by_class = ["", table(classes, list(classes[0]))] if classes else []
    return "\n".join([table(rows, columns), *protocol, *by_class, *notes])


def _number(value: Any) -> Any:
    if isinstance(value, list):
        return " to ".join(f"{bound:.4f}" for bound in value)
    return f"{value:.4f}" if isinstance(value, float) else value
