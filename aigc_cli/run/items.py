"""What a family measures of each item of its validation data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from aigc_cli.errors import InputError
from aigc_cli.run.pairs import plain
from aigc_cli.run.trained import Trained


def measure_items(
    trained: Trained, data: Any, names: Sequence[str], limit: int | None
) -> dict[str, Any]:
    """{"metrics": means of what the family measures, with the same of answers that need no model}.

    Raises:
        InputError: the family did not measure one of the names.
    """
    model, recipe = trained.model, trained.recipe
    directions = model.measures or model.metrics
    items = data.val if limit is None else Subset(data.val, range(min(limit, len(data.val))))
    size = data.val_batch_size or recipe.trainer.global_batch
    totals: dict[tuple[str, str], list[float]] = {}
    model.start_means()
    with torch.no_grad():
        for batch in DataLoader(items, size, collate_fn=getattr(data.val, "collate", None)):
            batch = {k: v.to(model.device) for k, v in batch.items()}
            found = {"value": model.add_to_means(model.measure(batch, recipe.sample))}
            for column, values in {**found, **model.baselines(batch)}.items():
                for name, value in values.items():
                    total = totals.setdefault((column, name), [0.0, 0])
                    if model.defines(name, len(value)):
                        total[0] += float(value.double().sum())
                        total[1] += len(value)
    columns: dict[str, dict[str, float]] = {}
    for (column, name), (summed, count) in totals.items():
        columns.setdefault(column, {})[name] = summed / count if count else nan
    scores = {column: model.summarize(means) for column, means in columns.items()}
    if missing := [name for name in names if name not in scores["value"]]:
        raise InputError(f"family '{recipe.family}' did not measure {missing[0]}")
    rows = {name: _row(name, scores, directions, len(items), recipe.family) for name in names}
    few = [name for name, row in rows.items() if row["value"] is None]
    notes = [f"{name} is not defined on so few items ({len(items)})" for name in few]
    return {"metrics": rows, **({"notes": notes} if notes else {})}


def _row(
    name: str,
    scores: Mapping[str, Mapping[str, float]],
    directions: Mapping[str, str],
    count: int,
    family: str,
) -> dict[str, Any]:
    return {
        **{column: plain(row[name]) for column, row in scores.items() if name in row},
        "n": count,
        "unit": "-",
        "higher_is_better": directions[name] == "max",
        "protocol": f"validation of family {family}",
    }
