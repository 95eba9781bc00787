"""The table of classes that `aigc sample` writes of a classifier."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from torch import Tensor

BEST = 5  # classes named for each input

Best = list[tuple[str, float]]
"""The likeliest classes of a thing, the likeliest first."""


def best_of(probabilities: Tensor, names: Sequence[str]) -> list[Best]:
    """Of each row (B, K) the likeliest classes by name, BEST at most."""
    values, classes = probabilities.topk(min(BEST, len(names)))
    return [
        [(names[c], p) for c, p in zip(label, value, strict=True)]
        for value, label in zip(values.tolist(), classes.tolist(), strict=True)
    ]


def labels_table(what: str, things: Sequence[str], found: Sequence[Best]) -> str:
    """CSV with a row for each thing: the classes and their probabilities in turn."""
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    count = len(found[0])
    rows.writerow([what, *(f"{k}_{n}" for n in range(1, count + 1) for k in ("label", "p"))])
    for thing, best in zip(things, found, strict=True):
        rows.writerow([thing, *(field for label, p in best for field in (label, f"{p:.4f}"))])
    return table.getvalue()
