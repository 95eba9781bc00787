"""Which places of YOLO's maps learn an object, and that it learns."""

from __future__ import annotations

import pytest
import torch

from aigc_cli.models.vision.yolo import Config, aligned, places_of

SIZES = [(8, 8), (4, 4), (2, 2)]  # of an image of 64 x 64


def test_places_are_in_the_middle_of_their_squares() -> None:
    places = places_of(SIZES, torch.device("cpu"))
    assert places.shape == (64 + 16 + 4, 3)
    assert places[[0, 1, 8, 64, -1]].tolist() == [
        [4, 4, 8], [12, 4, 8], [4, 12, 8], [8, 8, 16], [48, 48, 32],
    ]  # fmt: skip


def test_the_places_that_fit_best_learn_an_object() -> None:
    """The best has its IoU as target, the others less; places outside of the box learn nothing."""
    places = places_of(SIZES, torch.device("cpu"))
    real, classes = torch.tensor([[0.0, 0, 32, 32]]), torch.tensor([1])
    boxes = real.repeat(len(places), 1)
    boxes[10] = torch.tensor([0.0, 0, 32, 24])
    scores = torch.full((len(places), 2), 0.5)
    owner, target = aligned(scores, boxes, places, real, classes, Config(places=21))
    inside = ((places[:, 0] < 32) & (places[:, 1] < 32)).nonzero()[:, 0]
    assert (owner >= 0).nonzero()[:, 0].tolist() == inside.tolist()
    assert target[inside].max() == 1
    assert target[10] == pytest.approx(0.75**6)
    few, _ = aligned(scores, boxes, places, real, classes, Config(places=4))
    assert int((few >= 0).sum()) == 4


def test_a_place_in_two_boxes_learns_the_one_it_overlaps_more() -> None:
    places = places_of(SIZES, torch.device("cpu"))
    real = torch.tensor([[0.0, 0, 40, 40], [8, 8, 24, 24]])
    boxes = real[1].repeat(len(places), 1)
    scores = torch.full((len(places), 1), 0.5)
    owner, _ = aligned(scores, boxes, places, real, torch.tensor([0, 0]), Config(places=30))
    at = {tuple(place[:2].tolist()): int(o) for place, o in zip(places, owner, strict=True)}
    assert at[(12, 12)] == 1
    assert at[(36, 36)] == 0


def test_an_object_between_all_places_still_learns() -> None:
    places = places_of(SIZES, torch.device("cpu"))
    real = torch.tensor([[5.0, 5, 7, 7]])
    owner, target = aligned(
        torch.full((len(places), 1), 0.1), real.repeat(len(places), 1), places, real,
        torch.tensor([0]), Config(),
    )  # fmt: skip
    assert (owner >= 0).nonzero()[:, 0].tolist() == [0]
    assert float(target[0]) == pytest.approx(1)
