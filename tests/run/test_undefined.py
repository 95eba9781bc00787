"""A measure that is not defined on so few items says so, and never chooses a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from aigc_cli.models._base import GenerativeModule
from tests.run.conftest import Ending, paint, rows_of

TRAINER = "{max_steps: 4, global_batch: 4, validate_every: 2, precision: fp32}"
RECIPES = {
    "dcgan": """
family: dcgan
data: {kind: images, train: few, val: one, image_size: 16}
model: {features: none, latent_dim: 4, num_features: 4}
""",
    "cyclegan": """
family: cyclegan
data: {kind: unpaired_images, train: few, train_b: few, val: one, val_b: one, image_size: 16,
       load_size: 18}
model: {num_features: 2, num_blocks: 1, discriminator_features: 2, pool_size: 2}
""",
}


@pytest.mark.parametrize("family", RECIPES)
def test_what_one_item_does_not_define_chooses_nothing(
    aigc: Callable[..., Ending], here: Path, family: str
) -> None:
    paint(here / "few", 5, size=20)
    paint(here / "one", 1, size=20)  # validates
    (here / "few.yaml").write_text(f"{RECIPES[family]}trainer: {TRAINER}\n")
    ending = aigc("train", "few.yaml", "--out", "run")
    assert ending.code == 0, ending.err
    assert "block_kid is not defined on so few" in ending.err
    rows = [row for row in rows_of(here / "run") if row["event"] == "val"]
    assert [row["val/block_kid"] for row in rows] == [None, None]
    assert [row["best"] for row in rows] == [None, None]
    assert not (here / "run/checkpoints/best.ckpt").exists()
    report = aigc("evaluate", "run", "--json").json
    assert report["metrics"]["block_kid"]["value"] is None
    assert report["notes"] == ["block_kid is not defined on so few items (1)"]
    required = aigc("evaluate", "run", "--require", "block_kid<=9")
    assert required.code == 4
    assert json.loads((here / "run/evaluations.jsonl").read_text().splitlines()[0])


class Counts(GenerativeModule):
    metrics: ClassVar[Any] = {"alone": "max", "together": "max"}
    fewest: ClassVar[Any] = {"together": 2}

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.start_means()


def test_a_last_batch_of_one_does_not_count_in_a_measure_of_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Counts, "__abstractmethods__", frozenset(), raising=False)
    model: Any = Counts()
    model.add_to_means({"alone": torch.ones(8), "together": torch.full((8,), 3.0)})
    model.add_to_means({"alone": torch.full((1,), 10.0), "together": torch.full((1,), torch.nan)})
    assert model.validation_means() == {"alone": pytest.approx(2.0), "together": 3.0}
