"""What features are worth: the best of them, and how well a linear model tells classes by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TREES = 200
MOST = 5_000  # items by which features are selected
ROUNDS = 300  # of the optimizer of the probe


def select(
    values: NDArray[np.float32],
    labels: Sequence[str],
    keep: int,
    by: Literal["mutual_information", "trees"],
) -> list[int]:
    """Numbers of the `keep` best columns of (N, D), rising: by mutual information with the class,
    each by itself (Kraskov et al., 2004), or by how much trees use them together (Geurts et al.,
    2006).
    """
    chosen = np.random.default_rng(0).permutation(len(values))[:MOST]
    x, y = values[chosen], np.asarray(labels)[chosen]
    if by == "mutual_information":
        from sklearn.feature_selection import mutual_info_classif

        worth = mutual_info_classif(x, y, random_state=0)
    else:
        from sklearn.ensemble import ExtraTreesClassifier

        trees = ExtraTreesClassifier(TREES, random_state=0, class_weight="balanced")
        worth = trees.fit(x, y).feature_importances_
    best = np.argsort(-worth, kind="stable")[:keep]
    return sorted(best.tolist())


def probe(
    train: NDArray[np.float32],
    train_labels: Sequence[str],
    test: NDArray[np.float32],
    test_labels: Sequence[str],
) -> dict[str, Any]:
    """Accuracy and macro-F1 on test items of a logistic regression of standardized features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    mean, deviation = train.mean(0), train.std(0) + 1e-6
    model = LogisticRegression(max_iter=ROUNDS, C=0.1, tol=1e-3)
    model.fit((train - mean) / deviation, train_labels)
    named = model.predict((test - mean) / deviation)
    return {
        "accuracy": float(np.mean(named == np.asarray(test_labels))),
        "macro_f1": float(f1_score(test_labels, named, average="macro", zero_division=0)),
    }
