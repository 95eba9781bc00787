"""What is said when weights of `init_from` meet a training they do not bear."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aigc_cli.run.worth import strange_start
from tests.run.conftest import Ending

RECIPE = """
family: lm
seed: 0
data: {kind: text, train: good.txt, val: held.txt, context: 16, tokenizer: {kind: characters}}
model: {dim: 16, num_layers: 1, num_heads: 2, dropout: 0.0, lr: 0.02}
trainer: {max_steps: 40, global_batch: 8, log_every: 2, precision: fp32}
"""
SAID = "the training loss is"


def test_a_training_loss_far_above_the_validation_loss_of_the_start_is_said(
    aigc: Callable[..., Ending], here: Path
) -> None:
    (here / "good.txt").write_text("abcdefgh" * 100)
    (here / "held.txt").write_text("abcdefgh" * 20)
    (here / "other.txt").write_text("hgfedcba" * 100)  # the same letters, backwards
    (here / "a.yaml").write_text(RECIPE)
    assert aigc("train", "a.yaml", "--out", "first").code == 0
    words = ("train", "a.yaml", "init_from=first", "trainer.max_steps=4", "model.lr=1e-6")
    same = aigc(*words, "--out", "same")
    assert same.code == 0, same.err
    assert SAID not in same.err
    other = aigc(*words, "data.train=other.txt", "--out", "other")
    assert other.code == 0, other.err
    assert other.err.count(f"warning: step 2: {SAID}") == 1, other.err
    assert "do not suit the weights of init_from" in other.err


@pytest.mark.parametrize(("trained", "said"), [(6.6, True), (2.0, False), (float("nan"), True)])
def test_of_the_loss_that_dropout_makes(trained: float, said: bool) -> None:
    assert (strange_start(trained, 1.77, 10) is not None) is said
