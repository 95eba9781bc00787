"""What only an accelerator can show: `pytest -m gpu` where there is one.

AIGC_TEST_DEVICE=mps asks an Apple GPU; with cpu the same tests run anywhere, so that they are known
to work.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from aigc_cli.recipe.example import example_recipe
from aigc_cli.registry import families, load_family
from aigc_cli.run.build import attach_networks, build
from aigc_cli.run.train import train
from aigc_cli.sampling.noise import SampleNoise

DEVICE = os.environ.get("AIGC_TEST_DEVICE", "cuda")
if DEVICE == "cuda" and not torch.cuda.is_available():
    pytest.skip("no GPU here", allow_module_level=True)
pytestmark = pytest.mark.gpu

TRAINED = sorted(name for name in families() if not load_family(name).Model.training_free)
OF_EACH_MODALITY = ("dcgan", "cyclegan", "lm", "seq2seq", "music_lm", "wavenet", "yolo")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def moved(batch: Any) -> dict[str, Any]:
    return {name: value.to(DEVICE) for name, value in batch.items()}


@pytest.mark.parametrize("name", TRAINED)
def test_a_validation_batch_scores_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    recipe = example_recipe(name, tmp_path / "data")
    data, model = build(recipe)
    attach_networks(model, recipe)
    collate = getattr(data.val, "collate", None)
    batch = next(iter(DataLoader(data.val, batch_size=1, collate_fn=collate)))
    with torch.no_grad():
        here = model.eval().evaluate_batch(batch)
        there = model.to(DEVICE).evaluate_batch(moved(batch))
    assert here.keys() == there.keys()
    for key, value in here.items():
        torch.testing.assert_close(
            there[key].cpu(), value, rtol=0.02, atol=0.02, check_dtype=False, equal_nan=True
        )


def test_the_same_noise_makes_the_same_image(tmp_path: Path) -> None:
    """Noise is drawn on the CPU, whatever the device."""
    recipe = example_recipe("dcgan", tmp_path / "data")
    _, model = build(recipe)
    with torch.no_grad():
        here = model.eval().sample(SampleNoise(0, 0, 2), recipe.sample)
        there = model.to(DEVICE).sample(SampleNoise(0, 0, 2), recipe.sample)
    torch.testing.assert_close(there.cpu(), here, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", OF_EACH_MODALITY)
def test_every_precision_trains(name: str, precision: str, tmp_path: Path) -> None:
    if precision == "fp16" and DEVICE == "cpu":
        pytest.skip("fp16 is for GPUs")
    recipe = example_recipe(name, tmp_path / "data", device=DEVICE, precision=precision)
    result = train(recipe, out=tmp_path / "run")
    assert result.status == "finished"
    values = [
        v
        for row in rows_of(tmp_path / "run")
        for k, v in row.items()
        if k.startswith(("train/", "val/"))
    ]
    assert values
    assert all(isinstance(v, (int, float)) and abs(v) < 1e6 for v in values)


@pytest.mark.parametrize("name", ["lm", "dcgan"])
def test_a_resumed_run_is_an_uninterrupted_one(name: str, tmp_path: Path) -> None:
    def weights(folder: str) -> dict[str, torch.Tensor]:
        found = torch.load(tmp_path / folder / "checkpoints/last.ckpt", weights_only=True)
        kept: dict[str, torch.Tensor] = found["weights"]
        return kept

    whole = example_recipe(name, tmp_path / "data", device=DEVICE, max_steps=4)
    train(whole, out=tmp_path / "whole")
    train(
        whole.model_copy(update={"trainer": whole.trainer.model_copy(update={"max_steps": 2})}),
        out=tmp_path / "parts",
    )
    train(whole, resume=str(tmp_path / "parts"))
    once, twice = weights("whole"), weights("parts")
    for key, value in once.items():
        torch.testing.assert_close(twice[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_compiled_networks_learn_the_same(tmp_path: Path) -> None:
    losses = []
    for compile in (False, True):
        recipe = example_recipe("lm", tmp_path / "data", device=DEVICE, compile=compile)
        train(recipe, out=tmp_path / str(compile))
        rows = rows_of(tmp_path / str(compile))
        losses.append([row["train/loss"] for row in rows if "train/loss" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_gpus_learn_what_one_does(strategy: str, tmp_path: Path) -> None:
    from aigc_cli.cli import main

    text = "\n".join(f"line {n} of a small text to learn" for n in range(200))
    (tmp_path / "text.txt").write_text(text)
    losses = []
    for devices in (1, 2):
        out = tmp_path / str(devices)
        words = [
            "train", "lm_demo", f"data.train={tmp_path}/text.txt", f"data.val={tmp_path}/text.txt",
            "trainer.max_steps=4", "trainer.log_every=1", "trainer.precision=fp32",
            f"trainer.devices={devices}", f"trainer.strategy={strategy}", "--out", str(out),
        ]  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert not ended.value.code
        losses.append([row["train/loss"] for row in rows_of(out) if "train/loss" in row])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
