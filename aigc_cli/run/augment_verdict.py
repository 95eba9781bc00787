"""What several trainings say together: intervals over seeds, and whether two sets really differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LEVEL = 0.95
PROTOCOL = (
    "mean over seeds and its 95 % interval by Student's t; gains are differences seed by seed, and "
    "significant where their interval does not hold 0"
)


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """mean, low and high: the interval that holds the mean of such values 95 times in 100, by
    Student's t; of one value it is unbounded, which JSON calls null.
    """
    from scipy.stats import t

    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return {"mean": mean, "low": -math.inf, "high": math.inf}
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return {"mean": mean, "low": mean - half, "high": mean + half}


def verdict(gain: Mapping[str, float]) -> str:
    """better, worse, or no significant gain."""
    if gain["low"] > 0:
        return "better"
    return "worse" if gain["high"] < 0 else "no significant gain"


def compared(
    rows: Sequence[Mapping[str, Any]],
    arms: Sequence[str],
    names: Mapping[str, str],
    decisive: str,
) -> dict[str, Any]:
    """The scores `names` of each arm, of all items and of each class, and what each arm gains over
    the first; the verdict is that of the score `decisive`.
    """
    by_arm = {arm: sorted((r for r in rows if r["arm"] == arm), key=_seed) for arm in arms}
    first = by_arm[arms[0]]
    found: dict[str, Any] = {}
    for arm, own in by_arm.items():
        found[arm] = {
            "trained_on": own[0]["trained_on"],
            "scores": {key: mean_interval([row["scores"][key] for row in own]) for key in names},
            "classes": {
                label: mean_interval([row["classes"][label] for row in own])
                for label in own[0]["classes"]
            },
        }
        if own is first:
            continue
        gains = {
            key: mean_interval([
                a["scores"][key] - b["scores"][key] for a, b in zip(own, first, strict=True)
            ])
            for key in names
        }  # fmt: skip
        found[arm]["gain"] = gains
        found[arm]["verdict"] = verdict(gains[decisive])
    return {
        "protocol": f"{PROTOCOL}; the verdict is that of {names[decisive]}",
        "seeds": len(first),
        "steps": first[0]["steps"],
        "n": first[0]["n"],
        "names": dict(names),
        "decisive": decisive,
        "arms": found,
    }


def _seed(row: Mapping[str, Any]) -> int:
    return int(row["seed"])
