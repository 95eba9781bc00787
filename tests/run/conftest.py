"""A folder of small photographs, a tiny recipe of every base class, and two ways to call aigc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from aigc_cli.cli import invoke

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"

EDSR = """
family: edsr
seed: 3
data: {kind: super_resolution, train: photos, patch_size: 8}
model: {num_blocks: 1, num_features: 4, lr: 1e-3}
trainer:
  max_steps: 8
  global_batch: 4
  ema: 0.9
  log_every: 1
  validate_every: 4
  checkpoint_every: 2
  preview_every: 8
  precision: fp32
"""


@dataclass
class Ending:
    """How one call of aigc ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with `photos` and the two recipes `edsr.yaml` and `tiny_gan.yaml`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIGC_PATH", str(PLUGIN))
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AIGC_RUN_FOLDER", raising=False)
    paint(tmp_path / "photos", 11)
    (tmp_path / "edsr.yaml").write_text(EDSR)
    (tmp_path / "tiny_gan.yaml").write_text(
        (PLUGIN / "recipes/toy/tiny_gan.yaml").read_text(encoding="utf-8")
    )
    return tmp_path


def paint(folder: Path, count: int, size: int = 40) -> None:
    """Smooth colorful images of slightly different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        random = np.random.default_rng(number)
        small = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((size + number, size), Image.Resampling.BICUBIC)
        picture.save(folder / f"photo {number:02d}.png")


@pytest.fixture
def aigc(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ending]:
    """Call the command line in this process."""

    def call(*args: object) -> Ending:
        capfd.readouterr()
        code = invoke([str(arg) for arg in args])
        out, err = capfd.readouterr()
        return Ending(code, out, err)

    return call


class Child:
    """`aigc` in a process of its own, which tests may kill."""

    def __init__(self, *args: object) -> None:
        words = [sys.executable, "-m", "aigc_cli", *map(str, args)]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()
        )

    def wait_for_step(self, folder: Path, step: int, timeout_s: float = 300) -> None:
        """Until metrics.jsonl of the run has a row of `step`."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"ended too early: {self.process.communicate()}")
            rows = rows_of(folder)
            if rows and rows[-1]["step"] >= step:
                return
            time.sleep(0.02)
        raise AssertionError(f"no step {step} in {timeout_s} s")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, timeout_s: float = 300) -> Ending:
        out, err = self.process.communicate(timeout=timeout_s)
        return Ending(self.process.returncode, out, err)


@pytest.fixture
def child(here: Path) -> Any:
    """Start `aigc` in a child process; whatever is left is killed after the test."""
    started: list[Child] = []

    def start(*args: object) -> Child:
        started.append(Child(*args))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl of a run; a line in the making is left out."""
    file = folder / "metrics.jsonl"
    if not file.exists():
        return []
    lines = file.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def load(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def assert_same(a: Any, b: Any, place: str = "checkpoint") -> None:
    """Bit for bit the same tensors and values."""
    if isinstance(a, dict):
        assert a.keys() == b.keys(), place
        for key in a:
            assert_same(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), place
        for number, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}[{number}]")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), f"{place} differs by {(a - b).abs().max()}"
    else:
        assert a == b, f"{place}: {a} != {b}"


LEARNED = ("step", "samples", "weights", "ema", "optimizers", "scaler", "best")


def assert_same_run(a: Path, b: Path) -> None:
    """Two runs learned exactly the same."""
    one, other = load(a / "checkpoints/last.ckpt"), load(b / "checkpoints/last.ckpt")
    assert_same({k: one[k] for k in LEARNED}, {k: other[k] for k in LEARNED})


# Language models.

TRAINER = {
    "max_steps": 2, "global_batch": 2, "log_every": 1, "validate_every": 2, "checkpoint_every": 2,
    "preview_every": 2, "precision": "fp32",
}  # fmt: skip
NETWORK = {"dim": 16, "num_layers": 2, "num_heads": 2}


@pytest.fixture
def chain(here: Path) -> Path:
    """Recipes lm.yaml, chat.yaml, dpo.yaml and grpo.yaml, each starting from the one before."""
    pairs = [(f"what is {n}", f"it is {n}", f"not {n + 1}") for n in range(20)]
    chat = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a, _ in pairs
    ]
    lines: dict[str, list[dict[str, Any]]] = {
        "chat": chat,
        "preferences": [{"prompt": q, "chosen": a, "rejected": b} for q, a, b in pairs],
        "prompts": chat,
    }
    for name, rows in lines.items():
        (here / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (here / "text.txt").write_text("\n".join(" ".join(pair) for pair in pairs))
    tokenizer = {"kind": "bpe", "vocab_size": 300, "specials": "chat"}
    recipes: dict[str, dict[str, Any]] = {
        "lm": {"family": "lm", "data": {"kind": "text", "train": "text.txt", "context": 24,
                                        "tokenizer": tokenizer}, "model": NETWORK},
        "chat": {"family": "chat", "init_from": "lm", "data": {"kind": "chat"}},
        "dpo": {"family": "dpo", "init_from": "chat", "data": {"kind": "preferences"}},
        "grpo": {"family": "grpo", "init_from": "dpo", "data": {"kind": "prompts"},
                 "model": {"samples": 2, "max_tokens": 4, "rewards": {"rouge_l": 1.0}}},
    }  # fmt: skip
    for name, recipe in recipes.items():
        recipe["data"] |= {"context": 24} | ({} if name == "lm" else {
            "train": f"{recipe['data']['kind']}.jsonl"
        })  # fmt: skip
        recipe |= {"trainer": TRAINER, "seed": 1}
        (here / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
    return here


def trained(aigc: Callable[..., Ending], *names: str, overrides: tuple[str, ...] = ()) -> None:
    for name in names:
        more = overrides if name == names[-1] else ()
        ending = aigc("train", f"{name}.yaml", "--out", name, "--quiet", *more)
        assert ending.code == 0, ending.err
