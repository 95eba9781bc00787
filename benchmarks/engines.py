"""Ray beside what needs no cluster: steps per second, a killed worker, and sampling.

    OMP_NUM_THREADS=1 python -m benchmarks.engines train|kill|sample

train: two workers of `--engine ray` and two of `--devices 2` take turns on vae_demo; a rate is the
median of the rows of metrics.jsonl behind the first, so without start-up, which is said apart.
kill: the same run, whole and with a worker killed in its middle; both must end in the same bits.
sample: 2,000 images of one checkpoint by two actors and by one process; the files must be the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch

ROUNDS, STEPS, IMAGES = 3, 80, 2000
ENOUGH_S = 95.0  # no round begins later
RECIPE = [
    "vae_demo", "trainer.channels_last=false", "trainer.device=cpu", "trainer.log_every=10",
    "trainer.validate_every=100000", "trainer.preview_every=100000", f"trainer.max_steps={STEPS}",
    "trainer.checkpoint_every=10",
]  # fmt: skip
ENGINES = {"torchrun": ["--devices", "2"], "ray": ["--engine", "ray", "--workers", "2"]}


def aigc(*words: str) -> list[str]:
    return [sys.executable, "-m", "aigc_cli", *words, "--quiet"]


def rows_of(run: Path) -> list[dict[str, Any]]:
    file = run / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [row for row in map(json.loads, lines) if row["event"] == "step"]


def train(folder: Path) -> dict[str, Any]:
    rates: dict[str, list[float]] = {name: [] for name in ENGINES}
    seconds: dict[str, list[float]] = {name: [] for name in ENGINES}
    start = time.monotonic()
    for turn in range(ROUNDS):
        if time.monotonic() - start > ENOUGH_S:
            break
        for name, words in ENGINES.items():
            run, began = folder / f"{name}-{turn}", time.monotonic()
            subprocess.run(aigc("train", *RECIPE, *words, "--out", str(run)), check=True)
            seconds[name].append(time.monotonic() - began)
            rates[name].append(statistics.median(r["samples_per_s"] for r in rows_of(run)[1:]))
    ratios = [a / b for a, b in zip(rates["ray"], rates["torchrun"], strict=True)]
    weights = [weights_of(folder / f"{name}-0") for name in ENGINES]
    return {
        "samples_per_s": {name: [round(v, 1) for v in rates[name]] for name in ENGINES},
        "ray_by_torchrun": round(statistics.median(ratios), 3),
        "range": [round(min(ratios), 3), round(max(ratios), 3)],
        "whole_command_s": {name: round(statistics.median(seconds[name]), 1) for name in ENGINES},
        "same_weights": weights[0] == weights[1],
    }


def weights_of(run: Path) -> str:
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    parts = [(k, v.numpy().tobytes()) for k, v in sorted(state["weights"].items())]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def kill(folder: Path) -> dict[str, Any]:
    words = [*RECIPE, *ENGINES["ray"]]
    began = time.monotonic()
    subprocess.run(aigc("train", *words, "--out", str(folder / "whole")), check=True)
    whole_s, began = time.monotonic() - began, time.monotonic()
    run = subprocess.Popen(aigc("train", *words, "--out", str(folder / "cut")))
    while not (rows := rows_of(folder / "cut")) or rows[-1]["step"] < STEPS // 2:
        assert run.poll() is None
        time.sleep(0.02)
    tree = psutil.Process(run.pid).children(recursive=True)
    victim = [p for p in tree if "aigc_cli" in p.cmdline()][1]
    victim.kill()
    assert run.wait() == 0
    return {
        "whole_s": round(whole_s, 1),
        "killed_at_step": rows[-1]["step"],
        "with_a_kill_s": round(time.monotonic() - began, 1),
        "same_weights": weights_of(folder / "whole") == weights_of(folder / "cut"),
    }


def sample(folder: Path) -> dict[str, Any]:
    run = folder / "run"
    subprocess.run(aigc("train", *RECIPE, "trainer.max_steps=20", "--out", str(run)), check=True)
    seconds, digests = {}, {}
    for name, words in {"plain": [], "ray": ENGINES["ray"]}.items():
        out, began = folder / name, time.monotonic()
        call = aigc("sample", str(run), "-n", str(IMAGES), "--batch-size", "64", "--out", str(out))
        subprocess.run([*call, *words], check=True, stdout=subprocess.DEVNULL)
        seconds[name] = round(time.monotonic() - began, 1)
        files = sorted(out.rglob("*.png"))
        digests[name] = [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]
    return {
        "images": IMAGES,
        "seconds": seconds,
        "same_files": digests["plain"] == digests["ray"] and len(digests["ray"]) >= IMAGES,
    }


def main(part: str) -> dict[str, Any]:
    made = {"train": train, "kill": kill, "sample": sample}[part]
    with tempfile.TemporaryDirectory() as folder:
        found = made(Path(folder))
    return {
        "benchmark": f"Ray: {part}",
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "load": round(os.getloadavg()[0], 1),
        **found,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1]), indent=1))
