"""A language model trained by Muon: exact resume, and two processes as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.run.conftest import Child, Ending, assert_same, load, rows_of

Aigc = Callable[..., Ending]

RECIPE = """
family: lm
data: {kind: text, train: words.txt, val: last 20%, context: 16}
model: {dim: 16, num_layers: 2, num_heads: 2, optimizer: muon, lr: 0.01}
trainer:
  max_steps: 4
  global_batch: 4
  clip_norm: 1
  log_every: 1
  validate_every: 4
  checkpoint_every: 2
  preview_every: 4
  precision: fp32
"""


@pytest.fixture
def words(here: Path) -> Path:
    (here / "words.txt").write_text("\n".join(f"the cat saw {n} dogs" for n in range(40)))
    (here / "muon.yaml").write_text(RECIPE)
    return here


def test_stopped_and_resumed_equals_uninterrupted(aigc: Aigc, words: Path) -> None:
    assert aigc("train", "muon.yaml", "--out", "whole").code == 0
    assert aigc("train", "muon.yaml", "--out", "cut", "trainer.max_steps=2").code == 0
    assert aigc("train", "muon.yaml", "--resume", "cut").code == 0
    whole, cut = (load(words / f"{name}/checkpoints/last.ckpt") for name in ("whole", "cut"))
    for part in ("weights", "optimizers"):
        assert_same(whole[part], cut[part], part)
    states = whole["optimizers"][0]["state"].values()
    assert {"momentum"} in [set(state) for state in states]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns(
    aigc: Aigc, child: Callable[..., Child], words: Path, strategy: str
) -> None:
    """Within the rounding of bfloat16, in which updates are made orthogonal."""
    assert aigc("train", "muon.yaml", "--out", "one").code == 0
    options = ["--devices", 2, f"trainer.strategy={strategy}"]
    ending = child("train", "muon.yaml", *options, "--out", "two").end()
    assert ending.code == 0, ending.err
    one, two = rows_of(words / "one"), rows_of(words / "two")
    for row, other in zip(one, two, strict=True):
        for key, value in row.items():
            if key.startswith(("train/", "val/")):
                assert other[key] == pytest.approx(value, rel=2e-3), key
    a, b = (load(words / f"{name}/checkpoints/last.ckpt")["weights"] for name in ("one", "two"))
    far = {key: float((value - b[key]).square().mean().sqrt()) for key, value in a.items()}
    assert max(far.values()) < 5e-4, far  # one step of Muon moves weights by 0.2 lr = 2e-3


def test_adapters_are_no_matrices_to_make_orthogonal(aigc: Aigc, words: Path) -> None:
    chat = RECIPE.replace("family: lm", "family: chat").replace("lr: 0.01", "lora: {rank: 2}")
    chat = chat.replace("{kind: text, train: words.txt, val: last 20%,", "{kind: chat, train: x,")
    (words / "chat.yaml").write_text(chat)
    ending = aigc("train", "chat.yaml")
    assert ending.code == 2
    assert "optimizer muon is for whole matrices" in ending.err
