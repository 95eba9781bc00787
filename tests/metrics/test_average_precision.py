"""Average precision: by hand, and beside torchmetrics with the backend of COCO."""

from __future__ import annotations

import numpy as np
import pytest

from aigc_cli.media.boxes import Boxes
from aigc_cli.metrics.boxes._coco import class_ap, image_ap, measure_coco
from aigc_cli.metrics.boxes._matching import average_precision, hits, overlaps


def scene(random: np.random.Generator, count: int, *, scored: bool) -> Boxes:
    low = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([low, low + random.uniform(5, 30, (count, 2))], axis=1)
    names = tuple(random.choice(["a", "b"], count).tolist())
    scores = np.sort(random.uniform(0, 1, count))[::-1] if scored else None
    return Boxes(boxes, names, scores)


def shaken(real: Boxes, random: np.random.Generator) -> Boxes:
    """What a fair detector would find."""
    order = random.permutation(len(real))
    boxes = real.boxes[order] + random.normal(0, 1.5, (len(real), 4))
    names = tuple(real.names[i] if random.random() < 0.8 else "a" for i in order)
    scores = np.sort(random.uniform(0, 1, len(real)))[::-1]
    return Boxes(boxes, names, scores)


def test_overlaps_are_intersection_over_union() -> None:
    a, b = np.array([[0.0, 0, 10, 10]]), np.array([[5.0, 0, 15, 10], [20, 20, 30, 30]])
    np.testing.assert_allclose(overlaps(a, b), [[50 / 150, 0]])


def test_a_real_box_is_found_once() -> None:
    real = np.array([[0.0, 0, 10, 10]])
    found = np.array([[0.0, 0, 10, 9], [0, 0, 10, 10]])
    assert hits(found, real, 0.5).tolist() == [True, False]


def test_average_precision_by_hand() -> None:
    """Right, wrong, right of two: precision 1 up to recall 0.5, then 2/3."""
    hit = np.array([True, False, True])
    expected = (51 * 1 + 50 * 2 / 3) / 101
    assert average_precision(np.array([0.9, 0.8, 0.7]), hit, 2) == pytest.approx(expected)
    assert average_precision(np.zeros(0), np.zeros(0, bool), 2) == 0
    assert np.isnan(average_precision(np.zeros(0), np.zeros(0, bool), 0))


def test_ours_is_that_of_coco() -> None:
    random = np.random.default_rng(0)
    target = [scene(random, int(random.integers(1, 9)), scored=False) for _ in range(12)]
    preds = [shaken(real, random) for real in target]
    found = measure_coco(preds, target)
    mean = np.mean([class_ap(preds, target, name) for name in ("a", "b")])
    assert 0.2 < found["map_50"] < 0.95
    assert mean == pytest.approx(found["map_50"], abs=1e-6)
    ious = np.linspace(0.5, 0.95, 10)
    for row in found["classes"]:
        ap = np.mean([class_ap(preds, target, row["class"], iou) for iou in ious])
        assert row["AP"] == pytest.approx(ap, abs=1e-4)


def test_what_is_right_is_1_and_nothing_is_0() -> None:
    real = scene(np.random.default_rng(1), 4, scored=False)
    assert image_ap(Boxes(real.boxes, real.names, np.ones(4)), real) == pytest.approx(1)
    assert image_ap(Boxes(), real) == 0
    assert image_ap(Boxes(), Boxes()) == 1
    assert image_ap(real, Boxes()) == 0
